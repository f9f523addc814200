const told = (error) => ({ name: error?.name, message: error?.message });
const attempt = async (run) => {
  try { return { value: await run() }; } catch (error) { return told(error); }
};

const answers = {
  async order() {
    const headers = new Headers([['b', '2'], ['A', '1'], ['set-cookie', 'x=1'], ['C', '3'], ['Set-Cookie', 'y=2'], ['a', 'again']]);
    return { entries: [...headers], keys: [...headers.keys()], values: [...headers.values()], cookie: headers.get('set-cookie'), cookies: headers.getSetCookie(), a: headers.get('A') };
  },
  async refused() {
    const headers = new Headers();
    return {
      space: await attempt(() => headers.set('a b', 'x')), empty: await attempt(() => headers.set('', 'x')), line: await attempt(() => headers.set('a', 'x\ny')), nul: await attempt(() => headers.set('a', 'x\0')),
      wide: await attempt(() => headers.set('a', '\u2713')), latin: await attempt(() => { headers.set('l', '\u00e9'); return headers.get('l'); }), get: await attempt(() => headers.get('a b')), has: await attempt(() => headers.has('')),
      'one argument': await attempt(() => headers.set('a')), pairs: await attempt(() => new Headers([['a']])), nul_init: await attempt(() => [...new Headers(null)]), text: await attempt(() => [...new Headers('text')]),
      'no new': await attempt(() => Headers()),
    };
  },
  async trimmed() { const headers = new Headers({ a: '  x  ', b: '\tx\r\n' }); headers.append('a', ' y '); return [...headers]; },
  async change() {
    const headers = new Headers({ a: '1', b: '2', c: '3' });
    const seen = [];
    for (const [name] of headers) { seen.push(name); if (name === 'a') headers.delete('b'); }
    headers.delete('missing');
    headers.append('a', '2');
    headers.set('b', 'new');
    const each = [];
    headers.forEach((value, name, of) => each.push([name, value, of === headers]));
    const during = [];
    headers.forEach((value, name) => { during.push(name); if (name === 'a') { headers.delete('b'); headers.set('d', '4'); } });
    const keys = headers.keys();
    headers.set('aa', 'late');
    return { seen, each, during, keys: [...keys], has: headers.has('C') };
  },
  async incoming(env, ctx, request) {
    return { wide: request.headers.get('x-wide'), units: [...request.headers.get('x-wide') ?? ''].map((c) => c.charCodeAt(0)), set: await attempt(() => request.headers.set('x', '1')), own: request.headers.get('x-own'), twice: request.headers.get('x-twice'), copy: new Headers(request.headers).get('x-own'), tag: String(request.headers), cookies: request.headers.getSetCookie() };
  },
  async guards() {
    const response = Response.redirect('http://x.test/');
    return { redirect: await attempt(() => response.headers.set('a', 'b')), error: await attempt(() => Response.error().headers.set('a', 'b')), forbidden: [...new Request('http://x.test/', { headers: { host: 'y', 'content-length': '5', cookie: 'a=b' } }).headers] };
  },
};

export default {
  async fetch(request, env, ctx) {
    const { pathname } = new URL(request.url);
    return Response.json(await answers[pathname.slice(1)](env, ctx, request) ?? null);
  },
};
