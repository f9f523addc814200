// Event, EventTarget and the events that have more to say.
(function (internal) {
  'use strict';
  const { p, h, dom, shape } = internal;
  const { SafeMap, apply, arraySlice, arrayRemove, defineProperty, TypeError } = p;
  const { finish, illegal, wrongArgument, wrongInit, member, isObject } = h;

  let stateOf;
  class Event {
    #state;
    static {
      stateOf = (event) => { if (typeof event !== 'object' || event === null || !(#state in event)) throw illegal(); return event.#state; };
      internal.isEvent = (value) => typeof value === 'object' && value !== null && #state in value;
    }
    constructor(type, init = undefined) {
      if (arguments.length < 1) throw wrongInit('Event', 1, 'string');
      if (init !== undefined && init !== null && !isObject(init)) throw wrongInit('Event', 2, 'EventInit');
      this.#state = {
        type: `${type}`, bubbles: !!member(init, 'bubbles'), cancelable: !!member(init, 'cancelable'), composed: !!member(init, 'composed'),
        target: undefined, current: undefined, phase: 0, prevented: false, stopped: false, halted: false, passive: false, dispatching: false, trusted: false,
      };
    }
    get type() { return stateOf(this).type; }
    get eventPhase() { return stateOf(this).phase; }
    get composed() { return stateOf(this).composed; }
    get bubbles() { return stateOf(this).bubbles; }
    get cancelable() { return stateOf(this).cancelable; }
    get defaultPrevented() { return stateOf(this).prevented; }
    get returnValue() { return !stateOf(this).prevented; }
    get currentTarget() { return stateOf(this).current; }
    get target() { return stateOf(this).target; }
    get srcElement() { return stateOf(this).target; }
    get timeStamp() { stateOf(this); return 0; }
    get isTrusted() { return stateOf(this).trusted; }
    get cancelBubble() { return stateOf(this).stopped; }
    set cancelBubble(value) { if (value) stateOf(this).stopped = true; }
    composedPath() { const { current } = stateOf(this); return current === undefined ? [] : [current]; }
    stopPropagation() { stateOf(this).stopped = true; }
    stopImmediatePropagation() { const state = stateOf(this); state.stopped = true; state.halted = true; }
    preventDefault() { const state = stateOf(this); if (state.cancelable && !state.passive) state.prevented = true; }
  }
  h.constants(Event, { NONE: 0, CAPTURING_PHASE: 1, AT_TARGET: 2, BUBBLING_PHASE: 3 });
  finish(Event, 'Event');
  const shown = ['type', 'eventPhase', 'composed', 'bubbles', 'cancelable', 'defaultPrevented', 'returnValue', 'currentTarget', 'target', 'srcElement', 'timeStamp', 'isTrusted', 'cancelBubble'];
  shape(Event, 'Event', shown);

  // A class of events with members of its own, each with its default.
  function eventClass(name, defaults) {
    const keys = p.objectKeys(defaults);
    const own = new p.SafeWeakMap();
    const Class = class extends Event {
      constructor(type, init = undefined) {
        if (arguments.length < 1) throw wrongInit(name, 1, 'string');
        super(type, init);
        const values = { __proto__: null };
        for (let i = 0; i < keys.length; i++) values[keys[i]] = member(init, keys[i]) ?? defaults[keys[i]];
        own.set(this, values);
      }
    };
    for (const key of keys)
      defineProperty(Class.prototype, key, { get() { const values = own.get(this); if (values === undefined) throw illegal(); return values[key]; }, enumerable: true, configurable: true });
    defineProperty(Class, 'name', { value: name, configurable: true });
    finish(Class, name);
    shape(Class, name, p.arrayConcat(keys, shown));
    return Class;
  }
  eventClass('CustomEvent', { detail: null });
  internal.MessageEvent = eventClass('MessageEvent', { data: null, origin: '', lastEventId: '', source: null, ports: p.freeze([]) });
  internal.CloseEvent = eventClass('CloseEvent', { code: 0, reason: '', wasClean: false });
  internal.ErrorEvent = eventClass('ErrorEvent', { message: '', filename: '', lineno: 0, colno: 0, error: undefined });

  const NONE = new SafeMap();
  const NO_OPTIONS = { __proto__: null, once: false, passive: false, signal: undefined };
  let listenersOf;
  class EventTarget {
    // By type, a list of { callback, once, passive, removed }; made with the first.
    #listeners = undefined;
    static {
      listenersOf = (target, make = false) => {
        // The functions of the global object are called without one.
        if (target === undefined || target === globalThis) target = internal.globalTarget;
        if (typeof target !== 'object' || target === null || !(#listeners in target)) throw illegal();
        if (make) target.#listeners ??= new SafeMap();
        return target.#listeners ?? NONE;
      };
    }
    addEventListener(type, callback, options = undefined) {
      const listeners = listenersOf(this, true);
      if (arguments.length < 2) throw wrongArgument('EventTarget', 'addEventListener', 2, 'function or HandlerObject');
      const { once, passive, signal } = isObject(options) ? options : NO_OPTIONS;
      if (signal !== undefined && !internal.isSignal(signal))
        throw new TypeError("Incorrect type for the 'signal' field on 'AddEventListenerOptions': the provided value is not of type 'AbortSignal'.");
      if (callback === null || callback === undefined) return;
      if (typeof callback !== 'function' && (!isObject(callback) || typeof callback.handleEvent !== 'function')) throw wrongArgument('EventTarget', 'addEventListener', 2, 'function or HandlerObject');
      if (signal !== undefined && internal.signalState(signal).aborted) return;
      type = `${type}`;
      const list = listeners.get(type) ?? [];
      for (let i = 0; i < list.length; i++) if (list[i].callback === callback) return;
      list[list.length] = { callback, once: !!once, passive: !!passive, removed: false };
      listeners.set(type, list);
      if (signal !== undefined) internal.onAbort(internal.signalState(signal), () => remove(listeners, type, callback));
    }
    removeEventListener(type, callback) { remove(listenersOf(this), `${type}`, callback); }
    dispatchEvent(event) {
      listenersOf(this);
      if (!internal.isEvent(event)) throw wrongArgument('EventTarget', 'dispatchEvent', 1, 'Event');
      const state = stateOf(event);
      if (state.dispatching) throw dom('InvalidStateError', 'The event is already being dispatched.');
      state.trusted = false;
      return dispatch(this ?? globalThis, event);
    }
  }
  finish(EventTarget, 'EventTarget');
  shape(EventTarget, 'EventTarget', []);
  internal.globalTarget = new EventTarget();
  for (const name of ['addEventListener', 'removeEventListener', 'dispatchEvent']) internal.globals[name] = EventTarget.prototype[name];

  function remove(listeners, type, callback) {
    const list = listeners.get(type);
    for (let i = 0; list !== undefined && i < list.length; i++) {
      if (list[i].callback !== callback) continue;
      list[i].removed = true;
      arrayRemove(list, i);
      return;
    }
  }

  // An error of a listener goes on to the caller, as the reference has it, once the other listeners have run.
  function dispatch(target, event) {
    const state = stateOf(event);
    state.dispatching = true;
    state.target = state.current = target;
    state.phase = 2;
    const listeners = listenersOf(target);
    const list = arraySlice(listeners.get(state.type) ?? []);
    let thrown;
    const handler = internal.handlerOf(target, state.type);
    if (handler !== undefined) list[list.length] = { callback: handler, once: false, passive: false, removed: false };
    for (let i = 0; i < list.length && !state.halted; i++) {
      const listener = list[i];
      if (listener.removed) continue;
      if (listener.once) remove(listeners, state.type, listener.callback);
      state.passive = listener.passive;
      try {
        if (typeof listener.callback === 'function') apply(listener.callback, target, [event]);
        else listener.callback.handleEvent(event);
      } catch (error) { thrown ??= { error }; }
      state.passive = false;
    }
    state.dispatching = false;
    state.current = undefined;
    state.phase = 0;
    state.stopped = state.halted = false;
    if (thrown !== undefined) throw thrown.error;
    return !state.prevented;
  }
  internal.fire = (target, event) => { stateOf(event).trusted = true; return dispatch(target, event); };
  internal.hasListeners = (target, type) => (listenersOf(target).get(type)?.length ?? 0) > 0 || internal.handlerOf(target, type) !== undefined;

  // `onmessage` and the like: kept beside the target, called after its listeners.
  const handlers = new p.SafeWeakMap();
  internal.handlerOf = (target, type) => {
    const handler = handlers.get(target)?.[type];
    return typeof handler === 'function' ? handler : undefined;
  };
  internal.handlerAttribute = (Class, type) => defineProperty(Class.prototype, `on${type}`, {
    get() { return handlers.get(this)?.[type] ?? null; },
    set(value) {
      listenersOf(this);
      const own = handlers.get(this) ?? { __proto__: null };
      own[type] = isObject(value) ? value : undefined;
      handlers.set(this, own);
    },
    enumerable: true, configurable: true,
  });
  internal.EventTarget = EventTarget;
});
