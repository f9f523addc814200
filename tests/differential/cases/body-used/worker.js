const told = (error) => ({ name: error?.name, message: error?.message });
const attempt = async (run) => {
  try { return { value: await run() }; } catch (error) { return told(error); }
};

const used = async (body) => { await body.text(); return body; };
const answers = {
  async twice() {
    const results = {};
    for (const method of ['text', 'json', 'arrayBuffer', 'bytes', 'blob', 'formData']) results[method] = await attempt(async () => { const made = await used(new Response('{}')); return made[method](); });
    results.request = await attempt(async () => (await used(new Request('http://x.test/', { method: 'POST', body: 'b' }))).text());
    return results;
  },
  async clone() { const made = new Response('x'); const copy = made.clone(); return [await made.text(), await copy.text(), await attempt(async () => (await used(new Response('y'))).clone()), await attempt(async () => (await used(new Request('http://x.test/', { method: 'POST', body: 'b' }))).clone())]; },
  async taken() {
    const first = new Request('http://x.test/', { method: 'POST', body: 'b' });
    const second = new Request(first);
    return [first.bodyUsed, second.bodyUsed, await attempt(() => first.text()), await second.text(), await attempt(() => new Request(first).method), new Request(first, { body: 'other' }).bodyUsed];
  },
  async wrapped() { const first = new Response('x'); const second = new Response(first.body, first); return [first.bodyUsed, await second.text(), first.bodyUsed, await attempt(() => first.text()), await attempt(() => new Response(first.body).text())]; },
  async locked() {
    const made = new Response('x');
    const reader = made.body.getReader();
    const text = await attempt(() => made.text());
    const clone = await attempt(() => made.clone());
    const tee = await attempt(() => made.body.tee());
    const again = await attempt(() => made.body.getReader());
    reader.releaseLock();
    return { text, clone, tee, again, after: await made.text() };
  },
  async empty() { const made = new Response(null); return [made.body, await made.text(), await made.text(), made.bodyUsed, await attempt(() => new Response('').json()), await attempt(() => new Response('{').json())]; },
  async get() { return [await attempt(() => new Request('http://x.test/', { body: 'b' })), await attempt(() => new Request('http://x.test/', { method: 'HEAD', body: 'b' })), await attempt(() => new Request('http://x.test/', { method: 'GET', body: null }).body), await attempt(() => new Request('http://x.test/', { method: 'POST', body: new ReadableStream(), duplex: 'half' }).method)]; },
  async methods() { const results = {}; for (const method of ['get', 'patch', 'PaTcH', 'connect', 'trace', 'a b', '', 'x-own']) results[method] = await attempt(() => new Request('http://x.test/', { method }).method); return results; },
};

export default {
  async fetch(request, env, ctx) {
    const { pathname } = new URL(request.url);
    return Response.json(await answers[pathname.slice(1)](env, ctx, request) ?? null);
  },
};
