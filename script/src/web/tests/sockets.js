const pair = () => { const both = new WebSocketPair(); return [both[0], both[1]]; };
const listen = (socket, name, seen) => {
  for (const type of ['open', 'message', 'close', 'error'])
    socket.addEventListener(type, (e) => seen.push(`${name}:${type}:${type === 'message' ? (e.data instanceof Blob ? 'blob' : e.data instanceof ArrayBuffer ? 'buffer' : e.data) : type === 'close' ? `${e.code},${e.reason},${e.wasClean}` : e.message ?? ''} ${socket.readyState}`));
};
test('a pair', () => {
  const both = new WebSocketPair();
  const socket = both[0];
  equal([Object.keys(both), Object.values(both).length, [...both].length, socket.readyState, socket.binaryType, socket.url, socket.protocol, socket.extensions, socket.bufferedAmount], [['0', '1'], 2, 2, 1, 'blob', null, '', '', 0]);
  equal([WebSocket.CONNECTING, WebSocket.READY_STATE_OPEN, WebSocket.OPEN, WebSocket.CLOSING, WebSocket.CLOSED, socket.OPEN], [0, 1, 1, 2, 3, 1]);
  socket.binaryType = 'arraybuffer';
  socket.binaryType = 'x';
  equal(socket.binaryType, 'arraybuffer');
});
test('before accept', () => {
  const [a] = pair();
  const text = 'TypeError: You must call one of accept() or state.acceptWebSocket() on this WebSocket before sending messages.';
  throws(() => a.send('x'), text);
  throws(() => a.close(), text);
  a.accept();
  a.accept();
});
test('messages wait for accept; both ends in one isolate', async () => {
  const [a, b] = pair();
  const seen = [];
  listen(a, 'a', seen);
  listen(b, 'b', seen);
  a.accept();
  a.send('1');
  a.send(new Uint8Array([1]));
  a.send({});
  await settle();
  equal(seen, []);
  b.accept();
  await settle();
  b.send('2');
  await settle();
  b.close();
  await settle();
  equal(seen, ['b:message:1 1', 'b:message:blob 1', 'b:message:[object Object] 1', 'a:message:2 1', 'a:close:1005,,true 3', 'b:close:1005,,true 3']);
  equal([a.readyState, b.readyState], [3, 3]);
});
test('close with a code', async () => {
  const [a, b] = pair();
  const seen = [];
  listen(a, 'a', seen);
  listen(b, 'b', seen);
  a.accept();
  b.accept();
  a.close(3001, 'bye');
  equal(a.readyState, 2);
  throws(() => a.send('x'), "TypeError: Can't call WebSocket send() after close().");
  await settle();
  throws(() => b.send('y'), "TypeError: Can't call WebSocket send() after close().");
  b.close(4000, 'ok');
  a.close();
  equal(seen, ['b:close:3001,bye,true 3', 'a:close:3001,bye,true 3']);
});
test('codes and reasons', () => {
  const [a] = pair();
  a.accept();
  for (const code of [1005, 1006, 1015, 999, 5000, 0]) equal(throws(() => a.close(code), `InvalidAccessError: Invalid WebSocket close code: ${code}.`).code, 15);
  throws(() => a.close(undefined, 'x'), 'InvalidAccessError: If you specify a WebSocket close reason, you must also specify a code.');
  throws(() => a.close(1000, 'é'.repeat(62)), 'SyntaxError: WebSocket close reason must not be longer than 123 bytes when UTF-8 encoded.');
  a.close(1001);
  equal(a.readyState, 2);
});
test('onmessage, and bytes as they are wanted', async () => {
  const [a, b] = pair();
  let data;
  b.binaryType = 'arraybuffer';
  b.onmessage = (e) => { data = e.data; };
  a.accept();
  b.accept();
  const view = new Uint8Array([1, 2]);
  a.send(view);
  view[0] = 9;
  await settle();
  equal(new Uint8Array(data), new Uint8Array([1, 2]));
});
test('a listener that throws ends the connection', async () => {
  const [a, b] = pair();
  const seen = [];
  b.addEventListener('message', () => { throw new Error('hand'); });
  listen(a, 'a', seen);
  listen(b, 'b', seen);
  a.accept();
  b.accept();
  a.send('q');
  a.send('r');
  await settle();
  equal(seen, ['b:message:q 1', 'b:error:Uncaught hand 3', 'a:error:Network connection lost. 3', 'a:close:1006,WebSocket disconnected without sending Close frame.,false 3']);
  ok(host.lines[0].startsWith('error: Uncaught Error: hand'), host.lines[0]);
});
const upgrade = (handler) => handled(handler, { method: 'GET', url: 'http://w/', headers: [['upgrade', 'websocket']] }, null, {}, {});
test('one end goes to the client', async () => {
  const seen = [];
  const out = await upgrade(() => {
    const [client, server] = pair();
    server.accept();
    listen(server, 's', seen);
    server.send('early');
    return new Response(null, { status: 101, webSocket: client, headers: { 'x-own': '1' } });
  });
  const socket = host.sockets.get(out.webSocket);
  equal([out.status, out.headers, out.body, socket.sent], [101, [['x-own', '1']], null, ['early']]);
  socket.listener.message('hi');
  socket.listener.message(new Uint8Array([1]));
  socket.listener.close(4000, 'done');
  equal([seen, socket.closed], [['s:message:hi 1', 's:message:blob 1', 's:close:4000,done,true 3'], [4000, 'done']]);
});
test('one that is lost', async () => {
  const seen = [];
  const out = await upgrade(() => { const [client, server] = pair(); server.accept(); listen(server, 's', seen); return new Response(null, { status: 101, webSocket: client }); });
  host.sockets.get(out.webSocket).listener.close(1006, '', false);
  equal(seen, ['s:error:Network connection lost. 3', 's:close:1006,WebSocket disconnected without sending Close frame.,false 3']);
});
test('a connection of the host’s: given back untouched it stays there', async () => {
  const id = host.wsNew();
  host.answer = () => ({ status: 101, statusText: '', headers: [['x-container', 'kept']], body: null, webSocket: id });
  const out = await upgrade((request) => fetch(request));
  equal([out.webSocket, out.headers, host.sockets.get(id).listener, host.fetches[0].request.headers], [id, [['x-container', 'kept']], undefined, [['upgrade', 'websocket']]]);
});
test('a connection of the host’s: accepted and copied', async () => {
  const id = host.wsNew();
  host.answer = () => ({ status: 101, statusText: '', headers: [['sec-websocket-protocol', 'chat']], body: null, webSocket: id });
  const out = await upgrade(async (request) => {
    const response = await fetch(request);
    const upstream = response.webSocket;
    equal(upstream.protocol, 'chat');
    const [client, server] = pair();
    upstream.accept();
    server.accept();
    upstream.addEventListener('message', (e) => server.send(e.data));
    server.addEventListener('message', (e) => upstream.send(e.data));
    server.addEventListener('close', (e) => upstream.close(e.code, e.reason));
    return new Response(null, { status: 101, webSocket: client });
  });
  host.sockets.get(id).listener.message('from container');
  host.sockets.get(out.webSocket).listener.message('from client');
  host.sockets.get(out.webSocket).listener.close(1000, 'bye');
  equal([host.sockets.get(out.webSocket).sent, host.sockets.get(id).sent, host.sockets.get(id).closed], [['from container'], ['from client'], [1000, 'bye']]);
});
test('what cannot be given', async () => {
  const [a] = pair();
  a.accept();
  // A response may have it, but not leave with it.
  await rejects(upgrade(() => new Response(null, { status: 101, webSocket: a })), "TypeError: Can't return WebSocket in a Response after calling accept().");
  const [b] = pair();
  await upgrade(() => new Response(null, { status: 101, webSocket: b }));
  await rejects(upgrade(() => new Response(null, { status: 101, webSocket: b })), "TypeError: Can't return WebSocket that was already used in a response.");
  throws(() => b.accept(), "TypeError: Can't accept() WebSocket that was already used in a response.");
});
test('a client', async () => {
  const id = host.wsNew();
  host.answer = () => ({ status: 101, statusText: '', headers: [['sec-websocket-protocol', 'b']], body: null, webSocket: id });
  const socket = new WebSocket('wss://x/y?z', ['a', 'b']);
  const seen = [];
  listen(socket, 'c', seen);
  equal([socket.readyState, socket.url, socket instanceof EventTarget], [0, 'wss://x/y?z', true]);
  throws(() => socket.send('early'), 'InvalidStateError: The WebSocket is not open yet.');
  await settle();
  equal([seen, socket.protocol, host.fetches[0].request.url, host.fetches[0].request.headers], [['c:open: 1'], 'b', 'https://x/y?z', [['upgrade', 'websocket'], ['sec-websocket-protocol', 'a, b']]]);
  socket.send('hi');
  host.sockets.get(id).listener.message('there');
  socket.close(1000, 'done');
  host.sockets.get(id).listener.close(1000, 'done');
  equal([host.sockets.get(id).sent, host.sockets.get(id).closed, seen], [['hi'], [1000, 'done'], ['c:open: 1', 'c:message:there 1', 'c:close:1000,done,true 3']]);
});
test('a client that is refused', async () => {
  host.answer = () => ({ status: 404, statusText: '', headers: [], body: null, webSocket: null });
  const socket = new WebSocket('ws://x/');
  const seen = [];
  listen(socket, 'c', seen);
  await settle();
  equal(seen, ['c:error:Failed to establish the WebSocket connection: expected server to reply with HTTP status code 101 (switching protocols), but received 404 instead. 3', 'c:close:1006,Failed to establish websocket connection,false 3']);
  for (const [args, text] of [[['x'], 'The url is invalid.'], [['http://x/#a'], 'The url scheme must be ws or wss.'], [['ws://x/#a'], 'The url fragment must be empty.'], [['ws://x/', ['a', 'a']], 'The protocol is invalid.'], [['ws://x/', 'a b'], 'The protocol is invalid.']])
    equal(throws(() => new WebSocket(...args), `SyntaxError: WebSocket Constructor: ${text}`).code, 12);
});
test('a client that closes while it connects', async () => {
  const seen = [];
  host.answer = () => new Promise(() => {});
  const socket = new WebSocket('ws://x/');
  listen(socket, 'c', seen);
  socket.close(1000, 'never mind');
  socket.close();
  equal(socket.readyState, 2);
  throws(() => socket.send('x'), "TypeError: Can't call WebSocket send() after close().");
  await settle();
  equal([seen, host.fetches[0].cancelled], [['c:error:WebSocket is closed before the connection is established. 3', 'c:close:1006,Failed to establish websocket connection,false 3'], true]);
});
test('what waits for the other side', () => {
  const [a, b] = pair();
  a.accept();
  a.send('four');
  ok(a.bufferedAmount >= 4);
  b.accept();
  equal(a.bufferedAmount, 0);
});
test('bytes that no array may have are refused before they are gathered', () => {
  const part = new Uint8Array(1 << 20);
  throws(() => new Blob(new Array(1000).fill(part)), 'RangeError: What is put together has more than 256 MiB.');
  const params = new URLSearchParams();
  const text = 'x'.repeat(1 << 20);
  for (let i = 0; i < 300; i++) params.append('a', text);
  throws(() => params.toString(), 'RangeError: What is put together has more than 256 MiB.');
});
