// The language of the cases: test(name, body), equal(got, expected), throws, rejects.
(function (global, internals) {
  'use strict';
  const results = { run: 0, failures: [], pending: [] };
  const show = (value) => {
    const seen = new Set();
    const text = (v) => { const inner = seen.has(v); const shown = shape(v); if (!inner) seen.delete(v); return shown; };
    const shape = (v) => {
      if (typeof v === 'string') return JSON.stringify(v);
      if (typeof v === 'bigint') return `${v}n`;
      if (Object.is(v, -0)) return '-0';
      if (typeof v !== 'object' || v === null) return String(v);
      if (seen.has(v)) return '<again>';
      seen.add(v);
      if (Array.isArray(v)) { const parts = []; for (let i = 0; i < v.length; i++) parts.push(i in v ? text(v[i]) : '<hole>'); return `[${parts.join(', ')}]`; }
      if (ArrayBuffer.isView(v) && !(v instanceof DataView)) return `${v.constructor.name}[${Array.prototype.join.call(v, ', ')}]`;
      if (v instanceof ArrayBuffer) return `ArrayBuffer[${new Uint8Array(v).join(', ')}]`;
      if (v instanceof Error) return `${v.name}: ${v.message}`;
      if (v instanceof Map || v instanceof Set) return `${v.constructor.name}(${text([...v])})`;
      return `{${Object.keys(v).map((key) => `${key}: ${text(v[key])}`).join(', ')}}`;
    };
    return text(value);
  };
  const fail = (text) => { throw new Error(text); };
  global.test = (name, body) => results.pending.push({ name, body });
  global.show = show;
  global.equal = (got, expected, what = '') => { if (show(got) !== show(expected)) fail(`${what} got ${show(got)}, expected ${show(expected)}`); };
  global.ok = (truth, what = 'not so') => { if (!truth) fail(what); };
  const check = (error, expected) => equal(`${error?.name}: ${error?.message}`, expected);
  global.throws = (run, expected) => {
    let thrown;
    try { run(); } catch (error) { thrown = { error }; }
    if (thrown === undefined) fail(`threw nothing, expected ${expected}`);
    check(thrown.error, expected);
    return thrown.error;
  };
  global.rejects = async (promise, expected) => {
    let thrown;
    try { await (typeof promise === 'function' ? promise() : promise); } catch (error) { thrown = { error }; }
    if (thrown === undefined) fail(`rejected nothing, expected ${expected}`);
    check(thrown.error, expected);
    return thrown.error;
  };
  global.bytes = (text) => new TextEncoder().encode(text);
  global.seq = (n, from = 0) => Uint8Array.from({ length: n }, (_, i) => (from + i) & 255);
  global.hex = (data) => [...new Uint8Array(data)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  global.unhex = (digits) => Uint8Array.from(digits.match(/../g), (byte) => parseInt(byte, 16));
  global.b64 = (data) => new Uint8Array(data).toBase64({ alphabet: 'base64url', omitPadding: true });
  global.unb64 = (text) => Uint8Array.fromBase64(text, { alphabet: 'base64url' });
  global.text = (data) => new TextDecoder().decode(data);
  global.host = internals.host;
  global.dispatch = internals.dispatch;
  // A request to a handler, with headers as pairs, and its answer, as the isolate has them.
  global.handled = async (handler, head, body, env, ctx) => {
    const lists = global.host.lists(head);
    const given = dispatch.response(lists, await handler(dispatch.request(lists, body), env, ctx));
    return { ...given, headers: global.host.pairs(given) };
  };
  global.settle = () => new Promise((resolve) => setTimeout(resolve, 0));
  return {
    results,
    async run() {
      for (const { name, body } of results.pending) {
        results.run++;
        results.current = name;
        internals.dispatch.setEvent(1);
        internals.host.lines.length = 0;
        internals.host.fetches.length = 0;
        try { await body(); } catch (error) { results.failures.push(`${name}: ${error?.name}: ${error?.message}\n${error?.stack ?? ''}`); }
      }
      results.done = true;
    },
  };
});
