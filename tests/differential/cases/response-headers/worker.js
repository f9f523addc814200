export default {
  fetch(request) {
    const { pathname } = new URL(request.url);
    if (pathname === '/cookies') return new Response('c', { headers: [['set-cookie', 'a=1; Path=/'], ['set-cookie', 'b=2'], ['x-list', 'one'], ['X-List', 'two']] });
    if (pathname === '/latin') return new Response(null, { headers: { 'x-latin': 'caf\u00e9' } });
    if (pathname === '/unnamed') return new Response('u', { headers: [['', 'nothing'], ['x-a', 'b']] });
    if (pathname === '/wide') return new Response(null, { headers: { 'x-wide': '\u2713', 'x-pair': '\ud83d\ude00' } });
    if (pathname === '/empty') return new Response('', { headers: { 'x-empty': '' } });
    if (pathname === '/status') return new Response('teapot', { status: 418, statusText: 'Short' });
    if (pathname === '/json') return Response.json({ a: [1] }, { status: 201, headers: { 'x-a': 'b' } });
    if (pathname === '/bytes') return new Response(new Uint8Array([104, 105]));
    if (pathname === '/stream') return new Response(new Blob(['bl', 'ob'], { type: 'text/x' }).stream());
    if (pathname === '/blob') return new Response(new Blob(['blob'], { type: 'text/x' }));
    if (pathname === '/length') return new Response('12345', { headers: { 'content-length': '5' } });
    if (pathname === '/redirect') return Response.redirect('http://other.test/there', 307);
    if (pathname === '/none') return new Response(null, { status: 204 });
    if (pathname === '/unchanged') return new Response(null, { status: 304, headers: { etag: '"x"' } });
    if (pathname === '/nothing') return undefined;
    if (pathname === '/text') return 'text';
    if (pathname === '/throw') throw new TypeError('thrown');
    if (pathname === '/error') return Response.error();
    return new Response(`${request.method} ${request.url}`);
  },
};
