export default {
  fetch(request) {
    const { pathname } = new URL(request.url);
    if (request.headers.get('upgrade') !== 'websocket') return new Response('no upgrade', { status: 426 });
    if (pathname === '/refused') return new Response('not here', { status: 403, headers: { 'x-why': 'refused' } });
    const [client, server] = Object.values(new WebSocketPair());
    server.accept();
    if (pathname === '/closes') server.close(4000, 'at once');
    if (pathname === '/silent') server.close();
    if (pathname === '/hello') { server.send('hello'); server.send(new Uint8Array([1, 2, 3])); }
    server.addEventListener('message', async ({ data }) => {
      if (data instanceof Blob) return server.send(`blob ${data.size} ${data.type} ${[...await data.bytes()]}`);
      if (data === 'close') return server.close(4001, 'as asked');
      if (data === 'throw') throw new Error('of a handler');
      if (data === 'bytes') return server.send(new Uint8Array([9, 8]).buffer);
      server.send(`${typeof data} ${data}`);
    });
    server.addEventListener('close', ({ code, reason, wasClean }) => console.log('closed', code, reason, wasClean));
    const headers = { 'x-own': 'of the answer' };
    if (request.headers.get('sec-websocket-protocol')) headers['sec-websocket-protocol'] = 'two';
    return new Response(null, { status: 101, webSocket: client, headers });
  },
};
