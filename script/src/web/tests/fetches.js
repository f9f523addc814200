const reply = (head) => ({ status: 200, statusText: '', headers: [], body: null, webSocket: null, ...head });
test('what is sent, what comes', async () => {
  host.answer = () => reply({ status: 201, statusText: 'Made', headers: [['X-B', '2'], ['Set-Cookie', 'a'], ['Set-Cookie', 'b']], body: bytes('hi') });
  const response = await fetch('http://EXAMPLE.com/a#frag', { method: 'post', body: 'x', headers: { A: '1' } });
  const { request } = host.fetches[0];
  equal([request.method, request.url, request.headers, request.body], ['POST', 'http://example.com/a', [['a', '1'], ['content-type', 'text/plain;charset=UTF-8']], bytes('x')]);
  equal([response.status, response.statusText, response.headers.get('x-b'), response.headers.getSetCookie(), response.url, response.redirected, await response.text(), response.webSocket], [201, 'Made', '2', ['a', 'b'], 'http://example.com/a', false, 'hi', null]);
  throws(() => response.headers.set('a', 'b'), "TypeError: Can't modify immutable headers.");
});
test('what cannot be fetched', async () => {
  await rejects(fetch('/x'), 'TypeError: Invalid URL: /x');
  await rejects(fetch(), "TypeError: Failed to execute 'fetch' on 'ServiceWorkerGlobalScope': parameter 1 is not of type 'Request or string'.");
  await rejects(fetch('ftp://x/'), 'TypeError: Fetch API cannot load: ftp://x/');
  host.answer = () => { throw new Error('Network connection lost.'); };
  await rejects(fetch('http://x/'), 'Error: Network connection lost.');
  dispatch.setEvent(null);
  const outside = fetch('http://x/');
  dispatch.setEvent(1);
  ok((await outside.catch((error) => error)).message.startsWith('Disallowed operation called within global scope.'));
});
const chain = (...heads) => { host.answer = () => reply(heads.shift()); };
test('redirects are followed', async () => {
  chain({ status: 302, headers: [['Location', '/b?c']] }, { status: 301, headers: [['location', 'http://other/d']] }, { body: bytes('end') });
  const response = await fetch('http://x/a#f', { headers: { authorization: 's', x: 'y' } });
  equal([response.url, response.redirected, await response.text(), host.fetches.map((f) => f.request.url), host.fetches[1].request.headers, host.fetches[2].request.headers],
    ['http://other/d', true, 'end', ['http://x/a', 'http://x/b?c', 'http://other/d'], [['authorization', 's'], ['x', 'y']], [['x', 'y']]]);
});
test('redirects of methods with bodies', async () => {
  const post = (status) => { chain({ status, headers: [['location', '/b']] }, {}); return fetch('http://x/a', { method: 'POST', body: 'data' }); };
  for (const [status, method, body, type] of [[301, 'GET', null, false], [302, 'GET', null, false], [303, 'GET', null, false], [307, 'POST', bytes('data'), true], [308, 'POST', bytes('data'), true]]) {
    host.fetches.length = 0;
    await post(status);
    const { request } = host.fetches[1];
    equal([request.method, request.body, request.headers.some(([name]) => name === 'content-type')], [method, body, type], status);
  }
  chain({ status: 307, headers: [['location', '/b']] });
  await rejects(fetch('http://x/', { method: 'POST', body: new ReadableStream({ start(c) { c.close(); } }) }), 'TypeError: A request with a one-time-use body (it was initialized from a stream, not a buffer) encountered a redirect requiring the body to be retransmitted. To avoid this error in the future, construct this request from a buffer-like body initializer.');
});
test('redirects that are not followed, or without end', async () => {
  chain({ status: 302, headers: [['location', '/b']] });
  equal((await fetch('http://x/', { redirect: 'manual' })).status, 302);
  chain({ status: 302 });
  equal((await fetch('http://x/')).status, 302);
  host.answer = () => reply({ status: 302, headers: [['location', '/loop']] });
  host.fetches.length = 0;
  await rejects(fetch('http://x/'), 'TypeError: Too many redirects.');
  equal(host.fetches.length, 21);
  chain({ status: 302, headers: [['location', 'ftp://a/']] });
  await rejects(fetch('http://x/'), 'TypeError: Fetch API cannot load: ftp://a/');
});
test('a request that was received is sent on without following redirects', async () => {
  chain({ status: 302, headers: [['location', '/b']] });
  const out = await handled((request) => fetch(request), { method: 'GET', url: 'http://w/', headers: [] }, null, {}, {});
  equal([out.status, out.headers, host.fetches.length], [302, [['location', '/b']], 1]);
});
test('abort: before, during, while the body comes', async () => {
  await rejects(fetch('http://x/', { signal: AbortSignal.abort() }), 'AbortError: The operation was aborted');
  equal(host.fetches.length, 0);
  const controller = new AbortController();
  host.answer = () => new Promise(() => {});
  const waiting = fetch('http://x/', { signal: controller.signal });
  await settle();
  controller.abort(new Error('mine'));
  await rejects(waiting, 'Error: mine');
  equal(host.fetches[0].cancelled, true);
  const id = host.hostBody(['a', 'b']);
  host.answer = () => reply({ body: { host: id } });
  const other = new AbortController();
  const response = await fetch('http://x/', { signal: other.signal });
  const reader = response.body.getReader();
  await reader.read();
  other.abort();
  await rejects(reader.read(), 'AbortError: The operation was aborted');
  equal(host.bodies.get(id).cancelled, 'The operation was aborted');
  host.answer = () => new Promise(() => {});
  await rejects(fetch('http://x/', { signal: AbortSignal.timeout(50) }), 'TimeoutError: The operation was aborted due to timeout');
});
test('a Fetcher', async () => {
  host.answer = () => reply({ body: bytes('assets') });
  const assets = dispatch.fetcher({ assets: true });
  equal([await (await assets.fetch('http://any/x')).text(), host.fetches[0].request.destination], ['assets', { assets: true }]);
  await rejects(assets.fetch('/x'), 'TypeError: Invalid URL: /x');
  throws(() => new Fetcher(), 'TypeError: Illegal constructor');
  equal([typeof assets.then, Object.prototype.toString.call(assets)], ['undefined', '[object Fetcher]']);
});
test('data: URLs are answered here', async () => {
  const got = async (url, init) => { const response = await fetch(url, init); return [response.status, response.headers.get('content-type'), await response.text()]; };
  equal(await got('data:,a%20b%zz%C3%A4#c'), [200, 'text/plain;charset=US-ASCII', 'a b%zz\u00e4']);
  equal(await got('data:Text/HTML;Charset=utf-8,<b>'), [200, 'text/html;charset=utf-8', '<b>']);
  equal(await got('data:;charset=x;base64,YW%0AJj Y w=='), [200, 'text/plain;charset=x', 'abcc']);
  equal(await got('data:a/b; BASE64 ,YWJjZ'), [200, 'a/b', 'abc']);
  equal(await got('data:x,y', { method: 'HEAD' }), [200, 'text/plain;charset=US-ASCII', '']);
  equal(await got(new Request('data:,r')), [200, 'text/plain;charset=US-ASCII', 'r']);
  await rejects(fetch('data:none'), 'TypeError: Fetch API cannot load: data:none');
  equal(host.fetches.length, 0);
});
