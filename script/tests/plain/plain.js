// Handlers get the plain head with the body as `host` has it, and answer with plain objects. What they send may have its headers
// as pairs.
(function (host) {
  'use strict';
  const listed = ({ headers = [], ...sent } = {}) => ({ names: headers.map(([name]) => name), values: headers.map(([, value]) => value), ...sent });
  let event = null;
  globalThis.aborted = [];
  return {
    __proto__: null,
    install(global) {
      global.console = { log: (...args) => host.log('log', args.join(' ')), error: (...args) => host.log('error', args.join(' ')) };
      global.setTimeout = (f, ms) => host.timer(ms, f);
      global.clearTimeout = (id) => host.clearTimer(id);
      global.fetch = (url, init = {}) => {
        const { op, promise } = host.fetch({ destination: 'outside', method: 'GET', url, body: null, ...listed(init) });
        promise.op = op;
        return promise;
      };
      global.host = host;
      global.event = () => event;
    },
    request: (head, body) => ({ ...head, body }),
    response: (head, given) => ({ status: 200, statusText: '', body: null, ...listed(given ?? {}) }),
    scheduled: (handler, cron, time, env, ctx) => handler({ cron, scheduledTime: time }, env, ctx),
    abort: (id) => { globalThis.aborted.push(id); },
    setEvent: (id) => { event = id; },
  };
});
