// Runs the scripts of one test file as a worker of a browser does, within one event, and tells what comes of its tests.
const { run, scripts, report, finish, collect, href, boundMs, crash } = globalThis.__wpt;
delete globalThis.__wpt;
const { setTimeout, URL, Request: NativeRequest, Response: NativeResponse, fetch: nativeFetch } = globalThis;
const PASS = 0;
const FAIL = 1;

const here = new URL(href);
globalThis.location = { __proto__: null, toString: () => href };
for (const part of ['href', 'origin', 'protocol', 'host', 'hostname', 'port', 'pathname', 'search', 'hash']) globalThis.location[part] = here[part];
globalThis.GLOBAL = { isWindow: () => false, isWorker: () => true, isShadowRealm: () => false };
globalThis.TestUtils = { gc: async () => collect() };

// Tests name what they ask for from where they are; here there is no such place.
function absolute(args) {
  if (args.length === 0 || args[0] instanceof NativeRequest) return args;
  try { return [new URL(args[0], href).href, ...Array.prototype.slice.call(args, 1)]; } catch { return args; }
}
globalThis.Request = new Proxy(NativeRequest, {
  construct(target, args, made) { return Reflect.construct(target, absolute(args), made === globalThis.Request ? target : made); },
});
const redirect = NativeResponse.redirect;
NativeResponse.redirect = function (...args) { return Reflect.apply(redirect, this, absolute(args)); };
globalThis.fetch = function (...args) { return Reflect.apply(nativeFetch, undefined, absolute(args)); };

// On one line, and without what no other text can hold.
const shown = (text) => String(text).replace(/[\x00-\x1f\x7f]|[\ud800-\udfff]/gu, (one) => `\\u{${one.codePointAt(0).toString(16)}}`);

function runAll() {
  for (let i = 0; i < scripts; i++) {
    try {
      run(i);
    } catch (error) {
      report('(file)', FAIL, shown(`${error?.name}: ${error?.message}`));
      return;
    }
    if (i === 0) listen();
  }
}

let seen = 0;
let end;
const ended = new Promise((resolve) => { end = resolve; });
function listen() {
  globalThis.add_result_callback((test) => { seen++; report(shown(test.name), test.status, shown(test.message ?? '')); });
  globalThis.add_completion_callback((tests, status) => {
    if (status.status === status.ERROR) report('(file)', FAIL, shown(status.message ?? ''));
    end();
  });
}

function giveUp() {
  if (seen === 0) report('(file)', crash ? PASS : FAIL, 'no test has ended');
  if (crash) end(); else globalThis.timeout();
}

export default {
  async fetch() {
    runAll();
    setTimeout(giveUp, boundMs);
    await ended;
    finish();
    return new NativeResponse();
  },
};
