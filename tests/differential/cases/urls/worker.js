const told = (error) => ({ name: error?.name, message: error?.message });
const attempt = async (run) => {
  try { return { value: await run() }; } catch (error) { return told(error); }
};

const answers = {
  async requests() {
    const results = {};
    for (const url of ['http://EXAMPLE.com:80/a/../b', 'https://x.test:443', 'http://x.test/%7e?q=%27#frag', 'http://user:pass@x.test/', 'HTTP://X.test\\a', 'http://\u00fc.test/', 'http://x.test/a b', 'http://1.2.3/', '/x', 'x.test', '', 'http://', 'http://x.test:99999/'])
      results[url] = await attempt(() => new Request(url).url);
    return results;
  },
  async fetches() {
    const results = {};
    for (const url of ['/x', '', 'x', 'ftp://x.test/', 'file:///etc/hosts', 'about:blank', 'http://'])
      results[url] = await attempt(async () => (await fetch(url)).status);
    return results;
  },
  async came(env, ctx, request) {
    const url = new URL(request.url);
    return { url: request.url, method: request.method, host: url.host, search: url.search, redirect: request.redirect, own: String(request), kind: request.constructor.name, signal: request.signal?.constructor?.name ?? 'none', keepalive: request.keepalive ?? 'none', cache: request.cache ?? 'none', integrity: request.integrity ?? 'none' };
  },
  async changed() {
    const url = new URL('http://x.test/a?b=1');
    url.searchParams.append('c', 'd e');
    url.pathname = 'p q';
    url.hash = '';
    url.port = '80';
    url.host = 'y.test:81';
    return [url.href, url.origin, [...url.searchParams], JSON.stringify({ url }), URL.canParse('/x'), URL.canParse('/x', 'http://y.test'), URL.parse('nope'), await attempt(() => new URL('/x')), await attempt(() => { url.href = 'nope'; })];
  },
};

export default {
  async fetch(request, env, ctx) {
    const { pathname } = new URL(request.url);
    return Response.json(await answers[pathname.slice(1)](env, ctx, request) ?? null);
  },
};
