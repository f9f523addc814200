const range = 'RangeError: Responses may only be constructed with status codes in the range 200 to 599, inclusive.';
test('statuses', () => {
  for (const status of [101, 199, 600, 99999, 'a', -1]) throws(() => new Response(null, { status }), range);
  equal([new Response().status, new Response(null, { status: 599 }).status, new Response(null, { status: 204 }).body, new Response(null, { status: 404 }).ok], [200, 599, null, false]);
  for (const status of [204, 205, 304]) throws(() => new Response('x', { status }), 'TypeError: Response with null body status (101, 204, 205, or 304) cannot have a body.');
  equal(new Response('', { status: 204 }).body, null);
  throws(() => new Response(null, { statusText: 'a\nb' }), 'TypeError: Invalid statusText');
  throws(() => new Response('x', 5), "TypeError: Failed to construct 'Response': constructor parameter 2 is not of type 'InitializerDict or Response'.");
});
test('a status for WebSockets only', () => {
  throws(() => new Response(null, { webSocket: new WebSocketPair()[0] }), 'RangeError: Responses with a WebSocket must have status code 101.');
  const response = new Response(null, { status: 101, webSocket: new WebSocketPair()[0] });
  equal([response.status, response.webSocket instanceof WebSocket, response.body, new Response().webSocket], [101, true, null, null]);
});
test('redirect', () => {
  const response = Response.redirect('http://EXAMPLE.com', 301);
  equal([response.status, response.headers.get('location'), response.url, Response.redirect('http://a').status], [301, 'http://example.com/', '', 302]);
  for (const status of [200, 300, 304, 309]) throws(() => Response.redirect('http://a', status), `RangeError: ${status} is not a redirect status code. It must be one of: 301, 302, 303, 307, or 308.`);
  throws(() => Response.redirect('/a'), 'TypeError: Unable to parse URL: /a');
  throws(() => response.headers.set('a', 'b'), "TypeError: Can't modify immutable headers.");
});
test('json and error', async () => {
  const response = Response.json({ a: 1 }, { status: 201, headers: { x: 'y' } });
  equal([response.status, [...response.headers], await response.text()], [201, [['content-type', 'application/json'], ['x', 'y']], '{"a":1}']);
  equal([...Response.json(1, { headers: { 'content-type': 'x/y' } }).headers], [['content-type', 'x/y']]);
  equal([Response.error().status, Response.error().type, Response.error().ok], [0, 'error', false]);
  Response.error().headers.set('a', 'b');
  equal([await Response.json(undefined).text(), await Response.json(() => 1).text()], ['undefined', 'undefined']);
});
test('content types', () => {
  const types = [new Response('x'), new Response(new URLSearchParams('a=b')), new Response(new Blob(['x'], { type: 'a/b' })), new Response(new Uint8Array(1)), new Response(new FormData()), new Response({}), new Response(1), new Response(null), new Response(undefined), new Response(''), new Response('x', { headers: { 'Content-Type': 'own' } })]
    .map((response) => response.headers.get('content-type')?.replace(/boundary=.*/, 'boundary=') ?? null);
  equal(types, ['text/plain;charset=UTF-8', 'application/x-www-form-urlencoded;charset=UTF-8', 'a/b', null, 'multipart/form-data; boundary=', 'text/plain;charset=UTF-8', 'text/plain;charset=UTF-8', null, null, 'text/plain;charset=UTF-8', 'own']);
});
test('a body is read once', async () => {
  const again = 'TypeError: Body has already been used. It can only be used once. Use tee() first if you need to read it twice.';
  const response = new Response('x');
  await response.text();
  await rejects(response.text(), again);
  throws(() => response.clone(), 'TypeError: This ReadableStream is currently locked to a reader,');
  equal([response.bodyUsed, response.body.locked, response.body === response.body], [true, true, true]);
  throws(() => new Response(response.body), 'TypeError: This ReadableStream is disturbed (has already been read from), and cannot be used as a body.');
  const locked = new Response('x');
  locked.body.getReader();
  await rejects(locked.text(), 'TypeError: This ReadableStream is currently locked to a reader.');
  for (const copy of [() => locked.clone(), () => locked.body.tee()]) throws(copy, 'TypeError: This ReadableStream is currently locked to a reader,');
  throws(() => new Response(locked.body), 'TypeError: This ReadableStream is locked to a reader, and cannot be used as a body.');
  equal([locked.bodyUsed, new Response().bodyUsed, await new Response().text(), new Response().body], [false, false, '', null]);
});
test('a body in all its forms', async () => {
  equal([await new Response('ab').bytes(), new Uint8Array(await new Response('ab').arrayBuffer()), (await new Response('\ufeffa').text()), await new Response('\ufeff{"a":1}').json()], [bytes('ab'), bytes('ab'), 'a', { a: 1 }]);
  const blob = await new Response('ab', { headers: { 'content-type': 'X/y; z' } }).blob();
  equal([blob.size, blob.type, await new Response({}).text()], [2, 'x/y', '[object Object]']);
  for (const bad of ['{a', '']) { let name; await new Response(bad).json().catch((error) => { name = error.name; }); equal(name, 'SyntaxError'); }
  const view = new Uint8Array([97, 98]);
  const response = new Response(view);
  view[0] = 0;
  equal(await response.text(), 'ab');
});
test('forms', async () => {
  equal([...await new Response('a=b&c=d+e', { headers: { 'content-type': 'application/x-www-form-urlencoded' } }).formData()], [['a', 'b'], ['c', 'd e']]);
  await rejects(new Response('a').formData(), 'TypeError: Unrecognized Content-Type header value. FormData can only parse the following MIME types: multipart/form-data, application/x-www-form-urlencoded');
  await rejects(new Response(new Uint8Array(1)).formData(), 'TypeError: Parsing a Body as FormData requires a Content-Type header.');
  const bad = (type) => new Response('a', { headers: { 'content-type': type } }).formData();
  await rejects(bad('multipart/form-data'), "TypeError: No boundary string in Content-Type header. The multipart/form-data MIME type requires a boundary parameter, e.g. 'Content-Type: multipart/form-data; boundary=\"abcd\"'. See RFC 7578, section 4.");
  await rejects(bad('multipart/form-data; boundary=x'), 'TypeError: No initial boundary string (or you have a truncated message).');
  const lines = new Response('--x\nContent-Disposition: form-data; name="a"\n\n1\n--x\nContent-Disposition: form-data; name="b"\n\n--x--', { headers: { 'content-type': 'multipart/form-data; Boundary=x' } });
  equal([...await lines.formData()], [['a', '1'], ['b', '']]);
  const slash = new FormData();
  slash.set('f', new File([], 'a\\'));
  throws(() => new Response(slash), "TypeError: Name or filename can't end with backslash");
  const form = new FormData();
  form.append('a', 'b\r\nc"');
  form.append('f"\n', new File(['x'], 'n"a.txt', { type: 'a/b' }));
  form.append('g', new Blob(['q\0\xff']));
  form.append('empty', '');
  const response = new Response(form);
  const boundary = response.headers.get('content-type').split('boundary=')[1];
  const sent = await response.clone().text();
  equal(sent.replaceAll(boundary, 'B'), '--B\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\nc"\r\n--B\r\nContent-Disposition: form-data; name="f%22%0A"; filename="n%22a.txt"\r\nContent-Type: a/b\r\n\r\nx\r\n--B\r\nContent-Disposition: form-data; name="g"; filename="g"\r\nContent-Type: application/octet-stream\r\n\r\nq\0\xff\r\n--B\r\nContent-Disposition: form-data; name="empty"\r\n\r\n\r\n--B--');
  const got = await response.formData();
  equal([[...got.keys()], got.get('a'), await got.get('g').text(), got.get('g').name, got.get('g').type, got.get('empty'), got.get('f%22%0A').name], [['a', 'f%22%0A', 'g', 'empty'], 'b\r\nc"', 'q\0\xff', 'g', 'application/octet-stream', '', 'n%22a.txt']);
});
test('streams as bodies', async () => {
  const of = (...chunks) => new Response(new ReadableStream({ start(c) { for (const chunk of chunks) c.enqueue(chunk); c.close(); } }));
  equal([await of(bytes('x'), bytes('y').buffer).text(), [...of().headers]], ['xy', []]);
  const not = 'TypeError: This ReadableStream did not return bytes.';
  equal([await new Response((async function* () { yield bytes('g'); })()).text(), await new Response(Object('s')).text()], ['g', 's']);
  await rejects(new Response(['a']).text(), not);
  await rejects(of('x').text(), not);
  await rejects(of(1).arrayBuffer(), not);
  await rejects(new Response(new ReadableStream({ start(c) { c.error(new Error('mine')); } })).text(), 'Error: mine');
});
test('clone', async () => {
  const response = new Response('x', { status: 201, headers: { a: 'b' } });
  const copy = response.clone();
  copy.headers.set('a', 'c');
  equal([await response.text(), await copy.text(), copy.status, response.headers.get('a')], ['x', 'x', 201, 'b']);
  const stream = new Response(new ReadableStream({ start(c) { c.enqueue(bytes('s')); c.close(); } }));
  const other = stream.clone();
  equal([await stream.text(), await other.text()], ['s', 's']);
  const seen = new Response('x');
  void seen.body;
  equal([await seen.clone().text(), await seen.text()], ['x', 'x']);
});
test('a response of a response', async () => {
  const first = new Response('x', { status: 201, headers: { a: 'b' } });
  const second = new Response(first.body, first);
  second.headers.set('c', 'd');
  equal([second.status, second.headers.get('a'), await second.text(), first.bodyUsed], [201, 'b', 'x', true]);
});
test('how it looks', () => {
  console.log(new Response('x'));
  equal(host.lines[0], "log: Response {\n  status: 200,\n  statusText: '',\n  headers: Headers(1) {\n    'content-type' => 'text/plain;charset=UTF-8',\n    [immutable]: false\n  },\n  ok: true,\n  redirected: false,\n  url: '',\n  webSocket: null,\n  cf: undefined,\n  type: 'default',\n  body: ReadableStream {\n    locked: false,\n    [state]: 'readable',\n    [supportsBYOB]: true,\n    [length]: 1n\n  },\n  bodyUsed: false\n}");
});
test('the type of a blob is all of the media type', async () => {
  const typeOf = async (type) => (await new Response('a', { headers: { 'content-type': type } }).blob()).type;
  const types = [['Text/PLAIN;Charset=UTF-8', 'text/plain;charset=UTF-8'], ['a/b; c="d\\"e" ;f=', 'a/b;c="d\\"e"'], ['a/b;c=1;C=2', 'a/b;c=1'], ['a/b;c="x,y", d/e', 'd/e'],
    ['a/b;charset=x, a/b', 'a/b;charset=x'], ['a/b;charset=x, c/d', 'c/d'], ['a/b, */*, x', 'a/b'], ['a', ''], ['a/', ''], ['a/b c', '']];
  for (const [given, expected] of types) equal(await typeOf(given), expected, given);
  const form = new FormData();
  form.append('a', 'b');
  const blob = await new Response(form).blob();
  equal([...await new Response(blob).formData()], [['a', 'b']]);
});
