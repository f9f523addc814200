const told = (error) => ({ name: error?.name, message: error?.message });
const attempt = async (run) => {
  try { return { value: await run() }; } catch (error) { return told(error); }
};

const type = (body, init) => new Response(body, init).headers.get('content-type');
const answers = {
  async types() {
    return { text: type('x'), params: type(new URLSearchParams('a=b')), bytes: type(new Uint8Array(1)), blob: type(new Blob(['x'], { type: 'Text/X' })), plain: type(new Blob(['x'])), stream: type(new ReadableStream()), none: type(null), own: type('x', { headers: { 'content-type': 'text/own' } }), json: Response.json(1).headers.get('content-type'), number: type(5), object: type({}), form: type(new FormData()).replace(/=.*/, '='), request: new Request('http://x.test/', { method: 'POST', body: 'x' }).headers.get('content-type') };
  },
  async texts() { return [await new Response(5).text(), await new Response({}).text(), await new Response(new URLSearchParams({ 'a b': 'c&d' })).text(), await new Response(true).text()]; },
  async multipart() {
    const form = new FormData();
    form.append('plain', 'va"lue');
    form.append('na"me\n', 'line\nbreak');
    form.append('file', new File(['content'], 'na"me.txt', { type: 'text/plain' }));
    form.append('blob', new Blob([new Uint8Array([0, 255])]));
    const sent = new Response(form);
    const boundary = /boundary="?([^"]+)"?$/.exec(sent.headers.get('content-type'))[1];
    const text = await sent.clone().text();
    const back = await sent.formData();
    const entries = [];
    for (const [name, value] of back) entries.push([name, typeof value === 'string' ? value : { name: value.name, type: value.type, size: value.size, kind: value.constructor.name }]);
    return { text: text.replaceAll(boundary, 'BOUNDARY'), entries };
  },
  async encoded() {
    const back = await new Response('a=1&b=x+y%20z&a=2&=e&f', { headers: { 'content-type': 'application/x-www-form-urlencoded' } }).formData();
    return [...back];
  },
  async forms() {
    const make = (text, kind) => attempt(async () => [...await new Response(text, kind ? { headers: { 'content-type': kind } } : undefined).formData()]);
    return [await make('a=b'), await make('a=b', 'text/plain'), await make('x', 'multipart/form-data'), await make('x', 'multipart/form-data; boundary=y'), await make('--y\r\ncontent-disposition: form-data; name="a"\r\n\r\nb\r\n--y--', 'multipart/form-data; boundary=y')];
  },
  async sent(env, ctx, request) { return [request.headers.get('content-type'), [...await request.formData()].map(([name, value]) => [name, typeof value === 'string' ? value : [value.name, value.type, value.size]])]; },
  async blobs() { const blob = await new Response('x', { headers: { 'content-type': 'text/html' } }).blob(); return [blob.type, blob.size, (await new Response(new Uint8Array(2)).blob()).type]; },
};

export default {
  async fetch(request, env, ctx) {
    const { pathname } = new URL(request.url);
    return Response.json(await answers[pathname.slice(1)](env, ctx, request) ?? null);
  },
};
