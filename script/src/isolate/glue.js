// Between the isolate and the web classes: the handlers of the app, what calls of them come to, how errors read. Runs before
// all other code, keeps copies of what it uses, and is reached by no code of the app.
(function (natives) {
  'use strict';
  const { apply, construct, ownKeys } = Reflect;
  const { defineProperty, getPrototypeOf } = Object;
  const { then, constructor: PromiseConstructor } = Promise.prototype;
  const { resolve } = Promise;
  const { isError } = Error;
  const { toString: functionText, bind, call } = Function.prototype;
  const uncurry = apply(bind, bind, [call]);
  const textOf = uncurry(functionText);
  const startsWith = uncurry(String.prototype.startsWith);
  const wellFormed = uncurry(String.prototype.toWellFormed);
  const StringOf = String;
  const EvalErrorOf = EvalError;
  const HANDLERS = ['fetch', 'scheduled'];
  let dispatch, env, exported;
  const handlers = { __proto__: null };
  // What the app exports as classes, by name; the objects that are here, by the number of their instance.
  const classesByName = { __proto__: null };
  const instances = { __proto__: null };

  // As in V8: name and message first, then a line for each frame.
  const head = (error) => {
    try {
      const { name, message } = error;
      const kind = name === undefined ? 'Error' : StringOf(name);
      const text = message === undefined ? '' : StringOf(message);
      return kind === '' ? text : text === '' ? kind : `${kind}: ${text}`;
    } catch {
      return 'Error';
    }
  };
  const Frame = getPrototypeOf((() => {
    const before = Error.prepareStackTrace;
    Error.prepareStackTrace = (_, frames) => frames;
    const [frame] = new Error().stack;
    Error.prepareStackTrace = before;
    return frame;
  })());
  const [fileOf, functionOf, lineOf, columnOf, isNative] =
    ['getFileName', 'getFunctionName', 'getLineNumber', 'getColumnNumber', 'isNative'].map((name) => uncurry(Frame[name]));
  Error.prepareStackTrace = (error, frames) => {
    let text = head(error);
    for (let i = 0; i < frames.length; i++) {
      const frame = frames[i];
      const file = isNative(frame) ? null : fileOf(frame);
      if (typeof file === 'string' && startsWith(file, 'berth:')) continue;
      const name = functionOf(frame);
      const place = typeof file === 'string' ? `${file}:${lineOf(frame)}:${columnOf(frame)}` : '<anonymous>';
      text += name ? `\n    at ${name} (${place})` : `\n    at ${place}`;
    }
    return text;
  };

  const well = (text) => wellFormed(text);

  /// Name, message and stack of whatever was thrown.
  const describe = (value) => {
    if (typeof value === 'symbol') return ['Error', 'a symbol was thrown', ''];
    try {
      if (typeof value !== 'object' || value === null) return ['Error', well(StringOf(value)), ''];
      const { name, message, stack } = value;
      if (message === undefined && !isError(value)) return ['Error', well(StringOf(value)), ''];
      const shown = typeof stack === 'string' ? stack : '';
      return [well(name === undefined ? 'Error' : StringOf(name)), well(message === undefined ? '' : StringOf(message)), well(shown)];
    } catch {
      return ['Error', 'an error that cannot be described', ''];
    }
  };

  const secret = {};
  class ExecutionContext {
    #event;
    props = {};
    constructor(key, event) {
      if (key !== secret) throw new TypeError('Illegal constructor');
      this.#event = event;
    }
    waitUntil(promise) {
      const event = this.#event;
      natives.wait(event);
      const waited = apply(resolve, PromiseConstructor, [promise]);
      apply(then, waited, [() => natives.waited(event), (error) => { natives.uncaught(event, error); natives.waited(event); }]);
    }
    passThroughOnException() {}
  }

  /// Calls a handler: a method of an exported object, or of an instance of an exported class.
  const handler = (name) => {
    if (typeof exported === 'function') {
      if (typeof exported.prototype?.[name] !== 'function') return undefined;
      return (argument, env, context) => {
        const instance = construct(exported, [context, env]);
        return apply(instance[name], instance, [argument]);
      };
    }
    if (typeof exported !== 'object' || exported === null || typeof exported[name] !== 'function') return undefined;
    return (argument, env, context) => apply(exported[name], exported, [argument, env, context]);
  };

  /// A handler's context, and what it waits for. Without web classes that is told as it comes.
  const context = (event) => dispatch.context?.() ?? { ctx: new ExecutionContext(secret, event), waits: { count: 0 } };

  /// Runs a handler, and tells once what `finish` makes of its result.
  const run = (event, name, begin, finish) => {
    const { ctx, waits } = context(event);
    const end = (tell, value) => {
      if (waits.count === 0) return tell(event, value);
      natives.wait(event);
      tell(event, value);
      const waited = () => natives.waited(event);
      apply(then, waits.settled(), [waited, waited]);
    };
    answer(() => {
      if (handlers[name] === undefined) throw new Error(`Handler does not export a ${name}() function.`);
      return begin(handlers[name], ctx);
    }, finish, (value) => end(natives.settled, value), (error) => end(natives.failed, error));
  };

  /// Begins something, and tells once what `finish` makes of its result, or why it failed.
  const answer = (begin, finish, tell, fail) => {
    let result;
    try { result = apply(resolve, PromiseConstructor, [begin()]); } catch (error) { return fail(error); }
    apply(then, result, [(value) => {
      let finished;
      try { finished = finish(value); } catch (error) { return fail(error); }
      tell(finished);
    }, fail]);
  };

  /// The same of an object: `tell` is the native that takes its result.
  const answerOf = (event, begin, finish, tell) => answer(begin, finish, (value) => tell(event, value), (error) => natives.failed(event, error));
  const asItIs = (value) => value;

  return {
    __proto__: null,
    describe,
    well,

    /// What was thrown, as far as a clone can hold it, in bytes; and such an error as it is caught.
    thrown: (value) => dispatch?.thrown?.(value),
    caught: (error, bytes) => dispatch.caught(error, bytes),

    /// Makes an object: its constructor is called.
    construct(instance, name, id, objectName) {
      const Class = classesByName[name];
      if (Class === undefined) throw new TypeError(`The class "${name}" is not exported.`);
      instances[instance] = { __proto__: null, object: undefined, Class };
      instances[instance].object = construct(Class, [dispatch.objectState(instance, name, id, objectName), env]);
    },

    /// An object is gone; with a reason, what was made to call it stays broken.
    drop(instance) { delete instances[instance]; },
    reset(instance, id, error) {
      delete instances[instance];
      dispatch.objectReset?.(id, error);
    },

    objectFetch(instance, event, head, body) {
      answerOf(event, () => {
        const { object } = instances[instance];
        if (typeof object.fetch !== 'function') throw new TypeError('Handler does not export a fetch() function.');
        dispatch.setEvent(event);
        return apply(object.fetch, object, [dispatch.request(head, body)]);
      }, (value) => dispatch.response(head, value), natives.settled);
    },

    objectCall(instance, event, method, args) {
      answerOf(event, () => dispatch.callMethod(instances[instance].object, method, args), asItIs, natives.returned);
    },

    objectAlarm(instance, event, scheduledTime, retryCount) {
      answerOf(event, () => {
        const { object } = instances[instance];
        if (typeof object.alarm !== 'function') throw new TypeError('Your Durable Object class must have an alarm() handler in order to call setAlarm()');
        return apply(object.alarm, object, [{ isRetry: retryCount > 0, retryCount, scheduledTime }]);
      }, asItIs, natives.settled);
    },

    /// Runs what is in a critical section.
    section(instance, section, run) {
      let result;
      try { result = apply(resolve, PromiseConstructor, [run()]); } catch (error) { return dispatch.sectionEnded(instance, section, false, error); }
      apply(then, result, [(value) => dispatch.sectionEnded(instance, section, true, value), (error) => dispatch.sectionEnded(instance, section, false, error)]);
    },

    /// Code from strings is not run. To be called when all code of ours has been.
    lock() {
      const refuse = () => { throw new EvalErrorOf('Code generation from strings disallowed for this context'); };
      defineProperty(globalThis, 'eval', { value: { eval() { refuse(); } }.eval, writable: true, enumerable: false, configurable: true });
      for (const sample of [function () {}, async function () {}, function* () {}, async function* () {}]) {
        const prototype = getPrototypeOf(sample);
        const { name } = prototype.constructor;
        const Constructor = { [name]: function () { refuse(); } }[name];
        defineProperty(Constructor, 'prototype', { value: prototype, writable: false });
        defineProperty(prototype, 'constructor', { value: Constructor, writable: false, configurable: true });
        if (name === 'Function') defineProperty(globalThis, name, { value: Constructor, writable: true, enumerable: false, configurable: true });
      }
    },

    /// Takes the table of the web classes, and what handlers find in `env`.
    prepare(table, variables) {
      dispatch = table;
      dispatch.hasAlarm = (name) => typeof classesByName[name]?.prototype?.alarm === 'function';
      env = table.env ?? {};
      const names = ownKeys(variables);
      for (let i = 0; i < names.length; i++) {
        defineProperty(env, names[i], { __proto__: null, value: variables[names[i]], writable: true, enumerable: true, configurable: true });
      }
    },

    /// Takes what the app exports; gives the names of its handlers and of its classes.
    start(namespace) {
      exported = namespace.default;
      const found = [];
      for (let i = 0; i < HANDLERS.length; i++) {
        const name = HANDLERS[i];
        handlers[name] = handler(name);
        if (handlers[name] !== undefined) found[found.length] = name;
      }
      const classes = [];
      const names = ownKeys(namespace);
      for (let i = 0; i < names.length; i++) {
        const name = names[i];
        if (typeof name === 'string' && typeof namespace[name] === 'function' && startsWith(textOf(namespace[name]), 'class')) {
          classes[classes.length] = name;
          classesByName[name] = namespace[name];
        }
      }
      return [found, classes];
    },

    fetch(event, head, body) {
      run(event, 'fetch', (fetch, context) => fetch(dispatch.request(head, body), env, context), (value) => dispatch.response(head, value));
    },

    scheduled(event, cron, time) {
      run(event, 'scheduled', (scheduled, context) => dispatch.scheduled(scheduled, cron, time, env, context), asItIs);
    },

    abort(event) {
      dispatch.abort?.(event);
    },

    setEvent(event) {
      dispatch.setEvent?.(event);
    },

    done(event) {
      dispatch.done?.(event);
    },
  };
});
