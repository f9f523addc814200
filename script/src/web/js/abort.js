// AbortController and AbortSignal.
(function (internal) {
  'use strict';
  const { p, h, dom, host, fire, shape } = internal;
  const { isArray, TypeError } = p;
  const { finish, illegal, wrongArgument, isObject } = h;
  const { Event, EventTarget } = internal.classes;
  const key = {};

  let signalState;
  class AbortSignal extends EventTarget {
    #state = { aborted: false, reason: undefined, algorithms: [], sources: [], dependents: [] };
    static {
      signalState = (signal) => { if (!isObject(signal) || !(#state in signal)) throw illegal(); return signal.#state; };
      internal.isSignal = (value) => isObject(value) && #state in value;
    }
    constructor(secret) {
      if (secret !== key) throw new TypeError('Illegal constructor');
      super();
    }
    get aborted() { return signalState(this).aborted; }
    get reason() { return signalState(this).reason; }
    throwIfAborted() { const state = signalState(this); if (state.aborted) throw state.reason; }
    static abort(reason = undefined) {
      const signal = new AbortSignal(key);
      abort(signal, arguments.length === 0 || reason === undefined ? abortError() : reason);
      return signal;
    }
    static timeout(delay) {
      internal.inEvent();
      const signal = new AbortSignal(key);
      host.timer(internal.delay(delay), () => abort(signal, dom('TimeoutError', 'The operation was aborted due to timeout')));
      return signal;
    }
    static any(signals) {
      if (!isObject(signals) || typeof signals[p.symbolIterator] !== 'function') throw wrongArgument('AbortSignal', 'any', 1, 'Array');
      const list = [];
      for (const signal of signals) {
        if (!internal.isSignal(signal)) throw wrongArgument('AbortSignal', 'any', 1, 'Array');
        list[list.length] = signal;
      }
      return any(list);
    }
  }
  finish(AbortSignal, 'AbortSignal');
  internal.handlerAttribute(AbortSignal, 'abort');
  shape(AbortSignal, 'AbortSignal', ['aborted', 'reason', 'onabort']);
  const abortError = () => dom('AbortError', 'The operation was aborted');

  function abort(signal, reason) {
    const state = signalState(signal);
    if (state.aborted) return;
    state.aborted = true;
    state.reason = reason;
    const { dependents, algorithms } = state;
    state.dependents = [];
    state.algorithms = [];
    const woken = [];
    for (let i = 0; i < dependents.length; i++) {
      const other = signalState(dependents[i]);
      if (other.aborted) continue;
      other.aborted = true;
      other.reason = reason;
      woken[woken.length] = dependents[i];
    }
    run(signal, algorithms);
    for (let i = 0; i < woken.length; i++) {
      const other = signalState(woken[i]);
      const own = other.algorithms;
      other.algorithms = [];
      run(woken[i], own);
    }
  }
  function run(signal, algorithms) {
    for (let i = 0; i < algorithms.length; i++) algorithms[i](signalState(signal).reason);
    // Whoever aborts goes on, whatever a listener does.
    if (internal.hasListeners(signal, 'abort')) try { fire(signal, new Event('abort')); } catch (error) { internal.globals.reportError(error); }
  }

  // A signal that aborts with the first of these. Those that depend on others stand for them.
  function any(list) {
    const signal = new AbortSignal(key);
    const state = signalState(signal);
    for (let i = 0; i < list.length; i++) {
      const source = signalState(list[i]);
      if (!source.aborted) continue;
      state.aborted = true;
      state.reason = source.reason;
      return signal;
    }
    for (let i = 0; i < list.length; i++) {
      const own = signalState(list[i]).sources;
      const sources = own.length > 0 ? own : [list[i]];
      for (let j = 0; j < sources.length; j++) {
        if (p.arrayIndexOf(state.sources, sources[j]) >= 0) continue;
        state.sources[state.sources.length] = sources[j];
        const { dependents } = signalState(sources[j]);
        dependents[dependents.length] = signal;
      }
    }
    return signal;
  }

  class AbortController {
    #signal = new AbortSignal(key);
    get signal() { if (!isObject(this) || !(#signal in this)) throw illegal(); return this.#signal; }
    abort(reason = undefined) {
      if (!isObject(this) || !(#signal in this)) throw illegal();
      abort(this.#signal, reason === undefined ? abortError() : reason);
    }
  }
  finish(AbortController, 'AbortController');
  shape(AbortController, 'AbortController', ['signal']);

  internal.signalState = signalState;
  internal.abortSignal = (signal, reason) => abort(signal, reason === undefined ? abortError() : reason);
  internal.newSignal = () => new AbortSignal(key);
  internal.anySignal = any;
  // Runs once when the signal aborts; gives a function that takes it back.
  internal.onAbort = (signal, algorithm) => {
    const { algorithms } = signalState(signal);
    algorithms[algorithms.length] = algorithm;
    return () => {
      const list = signalState(signal).algorithms;
      const at = p.arrayIndexOf(list, algorithm);
      if (at >= 0) p.arrayRemove(list, at);
    };
  };
});
