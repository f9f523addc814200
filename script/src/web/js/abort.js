// AbortController and AbortSignal.
(function (internal) {
  'use strict';
  const { p, h, dom, host, fire, shape } = internal;
  const { isArray, TypeError } = p;
  const { finish, illegal, wrongArgument, isObject } = h;
  const { Event, EventTarget } = internal.classes;
  const key = {};

  // The object is made for who asks for it, and lists with their first.
  const NONE = p.freeze([]);
  const STATE = { __proto__: null, aborted: false, reason: undefined, algorithms: NONE, sources: NONE, dependents: NONE, object: undefined };
  const fresh = () => ({ __proto__: STATE });
  const objectOf = (state) => state.object ?? new AbortSignal(key, state);
  function add(state, name, item) {
    const list = state[name];
    if (list === NONE) state[name] = [item];
    else list[list.length] = item;
  }

  let signalState;
  class AbortSignal extends EventTarget {
    #state;
    static {
      signalState = (signal) => { if (typeof signal !== 'object' || signal === null || !(#state in signal)) throw illegal(); return signal.#state; };
      internal.isSignal = (value) => typeof value === 'object' && value !== null && #state in value;
    }
    constructor(secret, state) {
      if (secret !== key) throw new TypeError('Illegal constructor');
      super();
      this.#state = state;
      state.object = this;
    }
    get aborted() { return signalState(this).aborted; }
    get reason() { return signalState(this).reason; }
    throwIfAborted() { const state = signalState(this); if (state.aborted) throw state.reason; }
    static abort(reason = undefined) {
      const state = fresh();
      abort(state, arguments.length === 0 || reason === undefined ? abortError() : reason);
      return objectOf(state);
    }
    static timeout(delay) {
      internal.inEvent();
      const state = fresh();
      host.timer(internal.delay(delay), () => abort(state, dom('TimeoutError', 'The operation was aborted due to timeout')));
      return objectOf(state);
    }
    static any(signals) {
      if (!isObject(signals) || typeof signals[p.symbolIterator] !== 'function') throw wrongArgument('AbortSignal', 'any', 1, 'Array');
      const list = [];
      for (const signal of signals) {
        if (!internal.isSignal(signal)) throw wrongArgument('AbortSignal', 'any', 1, 'Array');
        list[list.length] = signalState(signal);
      }
      return objectOf(any(list));
    }
  }
  finish(AbortSignal, 'AbortSignal');
  internal.handlerAttribute(AbortSignal, 'abort');
  shape(AbortSignal, 'AbortSignal', ['aborted', 'reason', 'onabort']);
  const abortError = () => dom('AbortError', 'The operation was aborted');

  function abort(state, reason) {
    if (state.aborted) return;
    state.aborted = true;
    state.reason = reason;
    const { dependents, algorithms } = state;
    state.dependents = state.algorithms = NONE;
    const woken = [];
    for (let i = 0; i < dependents.length; i++) {
      const other = dependents[i];
      if (other.aborted) continue;
      other.aborted = true;
      other.reason = reason;
      woken[woken.length] = other;
    }
    run(state, algorithms);
    for (let i = 0; i < woken.length; i++) {
      const own = woken[i].algorithms;
      woken[i].algorithms = NONE;
      run(woken[i], own);
    }
  }
  function run(state, algorithms) {
    for (let i = 0; i < algorithms.length; i++) algorithms[i](state.reason);
    // Whoever aborts goes on, whatever a listener does.
    const { object } = state;
    if (object !== undefined && internal.hasListeners(object, 'abort')) try { fire(object, new Event('abort')); } catch (error) { internal.globals.reportError(error); }
  }

  // A signal that aborts with the first of these. Those that depend on others stand for them.
  function any(list) {
    const state = fresh();
    for (let i = 0; i < list.length; i++) {
      if (!list[i].aborted) continue;
      state.aborted = true;
      state.reason = list[i].reason;
      return state;
    }
    for (let i = 0; i < list.length; i++) {
      const own = list[i].sources;
      const sources = own.length > 0 ? own : [list[i]];
      for (let j = 0; j < sources.length; j++) {
        if (p.arrayIndexOf(state.sources, sources[j]) >= 0) continue;
        add(state, 'sources', sources[j]);
        add(sources[j], 'dependents', state);
      }
    }
    return state;
  }

  class AbortController {
    #signal = fresh();
    get signal() { if (typeof this !== 'object' || this === null || !(#signal in this)) throw illegal(); return objectOf(this.#signal); }
    abort(reason = undefined) {
      if (typeof this !== 'object' || this === null || !(#signal in this)) throw illegal();
      abort(this.#signal, reason === undefined ? abortError() : reason);
    }
  }
  finish(AbortController, 'AbortController');
  shape(AbortController, 'AbortController', ['signal']);

  // Within, a signal is its state; `signalState` and `signalObject` go from one to the other.
  internal.signalState = signalState;
  internal.signalObject = objectOf;
  internal.abortSignal = (state, reason) => abort(state, reason === undefined ? abortError() : reason);
  internal.newSignal = fresh;
  // Runs once when the signal aborts; gives a function that takes it back.
  internal.onAbort = (state, algorithm) => {
    add(state, 'algorithms', algorithm);
    return () => {
      const list = state.algorithms;
      const at = p.arrayIndexOf(list, algorithm);
      if (at >= 0) p.arrayRemove(list, at);
    };
  };
});
