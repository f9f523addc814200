// What the isolate calls: events come in as plain objects and go out as such.
(function (internal) {
  'use strict';
  const { p, h, dom, dispatch, natives } = internal;
  const { SafeMap, TypeError, then } = p;
  const { finish, handled, illegal, isObject, resolved } = h;

  // The requests of the events that go on, by event. Those of events whose end is not told are forgotten in time.
  const MOST = 5000;
  let running = new SafeMap();
  let older = new SafeMap();
  const remember = (event, state) => {
    if (running.size >= MOST) { older = running; running = new SafeMap(); }
    running.set(event, state);
  };
  const forget = (event) => {
    const state = running.get(event) ?? older.get(event);
    if (!running.delete(event)) older.delete(event);
    return state;
  };

  // The Request for a handler.
  dispatch.request = (head, body) => {
    const request = internal.incoming(head, body);
    const event = internal.event();
    if (event !== null) remember(event, internal.requestState(request));
    return request;
  };
  // What a handler has answered to that request: { status, statusText, names, values, body, webSocket }.
  dispatch.response = (head, response) => {
    if (internal.isResponse(response) && internal.responseState(response).webSocket !== null && !asksForSocket(head))
      throw new TypeError('Worker tried to return WebSocket in a response to a request which did not contain the header "Upgrade: websocket".');
    return dispatch.answer(response);
  };
  const asksForSocket = ({ names, values }) => {
    for (let i = 0; i < names.length; i++) if (names[i] === 'upgrade' && natives.asciiLower(values[i]) === 'websocket') return true;
    return false;
  };
  // A handler's result for the host.
  dispatch.answer = (response) => {
    if (!internal.isResponse(response)) throw new TypeError("Incorrect type for Promise: the Promise did not resolve to 'Response'.");
    if (internal.responseState(response).type === 'error') throw new TypeError('Return value from serve handler must not be an error response (like Response.error())');
    return internal.leaving(response);
  };
  // The client has gone away: the request's signal says so, everything else goes on.
  dispatch.abort = (event) => {
    const state = forget(event);
    if (state === undefined) return;
    state.signal ??= internal.newSignal();
    internal.abortSignal(state.signal, dom('AbortError', 'The client has disconnected'));
  };
  // Nothing of the event is left.
  dispatch.done = (event) => { if (!running.delete(event)) older.delete(event); };

  let controllerOf;
  class ScheduledController {
    #state;
    static { controllerOf = (controller) => { if (typeof controller !== 'object' || controller === null || !(#state in controller)) throw illegal(); return controller.#state; }; }
    constructor(secret, state) { if (secret !== internal) throw new TypeError('Illegal constructor'); this.#state = state; }
    get scheduledTime() { return controllerOf(this).time; }
    get cron() { return controllerOf(this).cron; }
    noRetry() { controllerOf(this).retry = false; }
  }
  finish(ScheduledController, 'ScheduledController');
  internal.shape(ScheduledController, 'ScheduledController', ['scheduledTime', 'cron']);
  // handler(controller, env, ctx) → Promise of { retry }.
  dispatch.scheduled = async (handler, cron, time, env, ctx) => {
    const state = { __proto__: null, cron, time, retry: true };
    await handler(new ScheduledController(internal, state), env, ctx);
    return { __proto__: null, retry: state.retry };
  };

  // The context of one event, and what it waits for: { ctx, waits: { count, settled() } }. So much of what waitUntil was given goes
  // on, and the promise resolves when all has ended. Nothing of it leads back to `ctx`: both go with the event.
  let contextOf;
  class ExecutionContext {
    #state;
    static { contextOf = (context) => { if (typeof context !== 'object' || context === null || !(#state in context)) throw illegal(); return context.#state; }; }
    constructor(secret, state) { if (secret !== internal) throw new TypeError('Illegal constructor'); this.#state = state; }
    waitUntil(promise) {
      const { waits } = contextOf(this);
      if (arguments.length < 1) throw h.wrongArgument('ExecutionContext', 'waitUntil', 1, 'Promise');
      waits.count++;
      const end = () => { if (--waits.count === 0 && waits.idle !== undefined) { waits.idle.resolve(); waits.idle = undefined; } };
      then(resolved(promise), end, (error) => { internal.globals.reportError(error); end(); });
    }
    passThroughOnException() { contextOf(this); }
    abort(reason = undefined) { contextOf(this).abort(reason); }
    get props() { return contextOf(this).props; }
    get exports() { return contextOf(this).exports; }
  }
  finish(ExecutionContext, 'ExecutionContext');
  internal.shape(ExecutionContext, 'ExecutionContext', ['props']);
  dispatch.context = (props = {}, exports = {}, abort = h.noop) => {
    const waits = { __proto__: WAITS };
    return { __proto__: null, ctx: new ExecutionContext(internal, { __proto__: null, waits, props, exports, abort }), waits };
  };
  const WAITS = {
    __proto__: null, count: 0, idle: undefined,
    settled() {
      if (this.count === 0) return resolved();
      this.idle ??= h.deferred();
      return this.idle.promise;
    },
  };

  // How an error is told: { name, message, text }, the text with its stack.
  dispatch.describe = (error) => {
    if (!isObject(error)) return { __proto__: null, name: 'Error', message: `${typeof error === 'symbol' ? p.symbolToString(error) : error}`, text: internal.inspect(error) };
    const read = (key) => { try { return `${error[key]}`; } catch { return ''; } };
    let text;
    try { text = internal.inspect(error); } catch { text = read('message'); }
    return { __proto__: null, name: read('name'), message: read('message'), text };
  };

  // ---- cloudflare:workers ----

  class DurableObject { constructor(ctx, env) { this.ctx = ctx; this.env = env; } }
  class WorkerEntrypoint { constructor(ctx, env) { this.ctx = ctx; this.env = env; } }
  class RpcTarget {}
  for (const [Class, name] of [[DurableObject, 'DurableObject'], [WorkerEntrypoint, 'WorkerEntrypoint'], [RpcTarget, 'RpcTarget']])
    p.defineProperty(Class.prototype, Symbol.toStringTag, { value: name, configurable: true });
  class WorkflowEntrypoint { constructor(ctx, env) { this.ctx = ctx; this.env = env; } }
  // `env` is filled by the isolate before the program's modules run, and given to its handlers.
  dispatch.env = {};
  dispatch.workers = { __proto__: null, DurableObject, WorkerEntrypoint, WorkflowEntrypoint, RpcTarget, env: dispatch.env };
});
