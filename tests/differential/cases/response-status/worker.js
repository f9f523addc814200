const told = (error) => ({ name: error?.name, message: error?.message });
const attempt = async (run) => {
  try { return { value: await run() }; } catch (error) { return told(error); }
};

const answers = {
  async statuses() {
    const results = {};
    for (const status of [199, 200, 600, 999, 1000, 0, -1, 101, NaN, '201', 204.9]) results[status] = await attempt(() => new Response(null, { status }).status);
    return results;
  },
  async bodies() {
    const results = {};
    for (const status of [101, 103, 204, 205, 304]) results[status] = [await attempt(() => new Response('x', { status }).status), await attempt(() => new Response('', { status }).status)];
    return results;
  },
  async texts() { return [await attempt(() => new Response(null, { statusText: 'a\nb' }).statusText), new Response(null, { statusText: 'Fine' }).statusText, new Response(null, { status: 404 }).statusText, await attempt(() => new Response(null, 5).status), new Response(null, null).status]; },
  async redirects() {
    const results = {};
    for (const status of [300, 301, 302, 303, 304, 307, 308, 200]) results[status] = await attempt(() => { const made = Response.redirect('http://x.test/a b', status); return [made.status, made.headers.get('location')]; });
    results.relative = await attempt(() => Response.redirect('/x'));
    results.usual = Response.redirect('http://x.test').status;
    return results;
  },
  async json() { return [await attempt(() => Response.json(undefined).text()), await attempt(() => Response.json(() => 1).text()), await attempt(() => Response.json(5n)), await Response.json('x').text(), await attempt(() => Response.json({}, { status: 204 }).status), Response.json(1, { headers: { 'content-type': 'text/x' } }).headers.get('content-type')]; },
  async properties() { const made = new Response('x'); const { status, ok, redirected, url, type, bodyUsed, webSocket } = made; return { status, ok, redirected, url, type, bodyUsed, webSocket, body: String(made.body), cf: made.cf ?? 'none', error: Response.error().type, 'error status': Response.error().status }; },
};

export default {
  async fetch(request, env, ctx) {
    const { pathname } = new URL(request.url);
    return Response.json(await answers[pathname.slice(1)](env, ctx, request) ?? null);
  },
};
