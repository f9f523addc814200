test('URLs', () => {
  throws(() => new Request('/x'), 'TypeError: Invalid URL: /x');
  throws(() => new Request(), "TypeError: Failed to construct 'Request': constructor parameter 1 is not of type 'Request or string'.");
  equal([new Request('http://u:p@a/').url, new Request('http://EXAMPLE.com:80/a/../b#h').url, new Request(new URL('http://x/y')).url], ['http://u:p@a/', 'http://example.com/b#h', 'http://x/y']);
});
test('methods', () => {
  equal([new Request('http://a').method, new Request('http://a', { method: 'post' }).method, new Request('http://a', { method: 'patch' }).method], ['GET', 'POST', 'PATCH']);
  for (const method of ['a b', 'foo', 'CONNECT']) throws(() => new Request('http://a', { method }), `TypeError: Invalid HTTP method string: ${method}`);
});
test('bodies', async () => {
  throws(() => new Request('http://a', { body: 'x' }), 'TypeError: Request with a GET or HEAD method cannot have a body.');
  const make = () => new Request('http://a', { method: 'POST', body: 'x' });
  equal([...make().headers], [['content-type', 'text/plain;charset=UTF-8']]);
  const first = make();
  const second = new Request(first);
  equal([first.bodyUsed, second.bodyUsed, await second.text()], [true, false, 'x']);
  throws(() => new Request(first), 'TypeError: Cannot reconstruct a Request with a used body.');
  const third = make();
  equal([await new Request(third, { body: 'y' }).text(), third.bodyUsed], ['y', false]);
  const fourth = make();
  const fifth = new Request('http://b', fourth);
  equal([fourth.bodyUsed, fifth.url, await fifth.text()], [false, 'http://b/', 'x']);
  const copy = make();
  const clone = copy.clone();
  equal([await copy.text(), await clone.text(), clone.method], ['x', 'x', 'POST']);
  const seen = make();
  void seen.body;
  equal([await new Request(seen).text(), seen.bodyUsed, seen.body.locked], ['x', true, true]);
  const streamed = new Request('http://a', { method: 'POST', body: new ReadableStream({ start(c) { c.enqueue(bytes('s')); c.close(); } }) });
  const moved = new Request(streamed);
  equal([streamed.bodyUsed, await moved.text()], [true, 's']);
});
test('headers', () => {
  const request = new Request('http://a', { headers: { a: 'b' } });
  throws(() => new Request('http://a', { headers: null }), "TypeError: Incorrect type for the 'headers' field on 'RequestInitializerDict': the provided value is not of type 'Headers or Sequence or object'.");
  equal([[...new Request(request, { headers: { c: 'd' } }).headers], [...new Request(request).headers]], [[['c', 'd']], [['a', 'b']]]);
});
test('redirect, cache, signal', () => {
  for (const redirect of ['error', 'x']) throws(() => new Request('http://a', { redirect }), 'TypeError: Invalid redirect value, must be one of "follow" or "manual" ("error" won\'t be implemented since it does not make sense at the edge; use "manual" and check the response status code).');
  equal([new Request('http://a').redirect, new Request('http://a', { redirect: 'manual' }).redirect, new Request('http://a', { cache: 'no-store' }).cache], ['follow', 'manual', 'no-store']);
  throws(() => new Request('http://a', { cache: 'x' }), 'TypeError: Unsupported cache mode: x');
  const { signal } = new AbortController();
  ok(new Request('http://a', { signal }).signal === signal && new Request(new Request('http://a', { signal })).signal === signal && !new Request('http://a').signal.aborted);
  throws(() => new Request('http://a', { signal: {} }), "TypeError: Incorrect type for the 'signal' field on 'RequestInitializerDict': the provided value is not of type 'AbortSignal'.");
});
test('what it has and has not', () => {
  const request = new Request('http://a', { cf: { x: 1 } });
  equal([request.cf, request.integrity, request.keepalive, request.fetcher, request.mode, request.credentials], [{ x: 1 }, '', false, null, undefined, undefined]);
  equal([Object.prototype.toString.call(request), Object.getOwnPropertyNames(request), typeof Body], ['[object Request]', [], 'undefined']);
  throws(() => Object.getOwnPropertyDescriptor(Request.prototype, 'url').get.call({}), 'TypeError: Illegal invocation: function called with incorrect `this` reference.');
  throws(() => new (Object.getPrototypeOf(Request))(), 'TypeError: Illegal constructor');
  class Mine extends Request { get twice() { return this.url + this.url; } }
  equal(new Mine('http://a').twice, 'http://a/http://a/');
});
test('how it looks', () => {
  console.log(new Request('http://a/b', { headers: { x: 'y' } }));
  equal(host.lines[0], "log: Request {\n  method: 'GET',\n  url: 'http://a/b',\n  headers: Headers(1) { 'x' => 'y', [immutable]: false },\n  redirect: 'follow',\n  fetcher: null,\n  signal: AbortSignal { aborted: false, reason: undefined, onabort: null },\n  cf: undefined,\n  integrity: '',\n  keepalive: false,\n  cache: undefined,\n  body: null,\n  bodyUsed: false\n}");
});
