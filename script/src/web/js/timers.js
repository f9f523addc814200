// Timers, microtasks, clocks, and what a program asks of the place where it runs.
(function (internal) {
  'use strict';
  const { p, h, host } = internal;
  const { apply, defineProperty, floor, min, Promise } = p;
  const { wrongArgument, finish, isObject } = h;
  const LONGEST = 2147483647;
  const scope = 'ServiceWorkerGlobalScope';

  // Milliseconds as a timer takes them: what is no number, or too much, is at once.
  internal.delay = (value) => {
    const ms = floor(+value);
    return ms > 0 && ms <= LONGEST ? ms : ms > LONGEST && ms < 9007199254740992 ? LONGEST : 0;
  };
  const live = new p.SafeMap();
  let last = 0;
  function start(name, callback, delay, args, again) {
    if (typeof callback !== 'function') throw wrongArgument(scope, name, 1, 'function');
    internal.inEvent();
    const id = ++last;
    const ms = internal.delay(delay);
    const run = () => {
      if (again) live.set(id, host.timer(min(ms < 1 ? 1 : ms, LONGEST), run));
      else live.delete(id);
      apply(callback, undefined, args);
    };
    live.set(id, host.timer(ms, run));
    return id;
  }
  function stop(id) {
    const known = live.get(typeof id === 'number' ? id : +id);
    if (known === undefined) return;
    live.delete(+id);
    host.clearTimer(known);
  }
  const nextMicrotask = globalThis.queueMicrotask;
  h.microtask = nextMicrotask;
  const functions = {
    setTimeout(callback, delay, ...args) { return start('setTimeout', callback, delay, args, false); },
    setInterval(callback, delay, ...args) { return start('setInterval', callback, delay, args, true); },
    clearTimeout(id) { stop(id); },
    clearInterval(id) { stop(id); },
    queueMicrotask(callback) {
      if (typeof callback !== 'function') throw wrongArgument(scope, 'queueMicrotask', 1, 'function');
      nextMicrotask(callback);
    },
    reportError(error) { internal.print('error', `Uncaught ${h.isObject(error) ? internal.inspect(error) : `${error}`}`); },
  };
  for (const name of p.objectKeys(functions)) internal.globals[name] = functions[name];
  // With nodejs_compat only.
  internal.setImmediate = (callback, ...args) => start('setImmediate', callback, 0, args, false);
  internal.clearImmediate = stop;

  class Scheduler {
    wait(delay, options = undefined) {
      return new Promise((resolve, reject) => {
        if (arguments.length < 1) throw h.wrongArgument('Scheduler', 'wait', 1, 'number');
        internal.inEvent();
        const signal = h.member(options, 'signal');
        if (signal !== undefined && internal.signalState(signal).aborted) throw internal.signalState(signal).reason;
        let forget = h.noop;
        const id = host.timer(internal.delay(delay), () => { forget(); resolve(); });
        if (signal !== undefined) forget = internal.onAbort(internal.signalState(signal), (reason) => { host.clearTimer(id); reject(reason); });
      });
    }
  }
  finish(Scheduler, 'Scheduler');
  internal.globals.scheduler = new Scheduler();

  class Performance extends internal.EventTarget {
    get timeOrigin() { return 0; }
    now() { return host.perf(); }
    toJSON() { return { timeOrigin: 0 }; }
  }
  finish(Performance, 'Performance');
  internal.shape(Performance, 'Performance', ['timeOrigin']);
  internal.globals.performance = new Performance();

  class Navigator {
    get userAgent() { return 'Cloudflare-Workers'; }
    get hardwareConcurrency() { return 1; }
    get language() { return 'en'; }
    get languages() { return ['en']; }
    get platform() { return ''; }
  }
  finish(Navigator, 'Navigator');
  internal.globals.navigator = new Navigator();
});
