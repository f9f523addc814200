const head = { method: 'POST', url: 'http://w/p?q', headers: [['Host', 'w'], ['X-A', '1']], cf: { colo: 'here' } };
test('a request comes in', async () => {
  const env = { E: 1 };
  const ctx = {};
  const out = await handled(async (request, e, c) => {
    equal([request.method, request.url, [...request.headers], request.cf, request.redirect, e === env, c === ctx, await request.text()], ['POST', 'http://w/p?q', [['host', 'w'], ['x-a', '1']], { colo: 'here' }, 'manual', true, true, 'body']);
    throws(() => request.headers.set('a', 'b'), "TypeError: Can't modify immutable headers.");
    return new Response('ok', { status: 202, statusText: 'Fine' });
  }, head, bytes('body'), env, ctx);
  equal([out.status, out.statusText, out.headers, text(out.body), out.webSocket], [202, 'Fine', [['content-type', 'text/plain;charset=UTF-8']], 'ok', null]);
});
test('what is no response', async () => {
  const wrong = "TypeError: Incorrect type for Promise: the Promise did not resolve to 'Response'.";
  for (const result of [undefined, null, 'x', {}]) await rejects(handled(() => result, head, null, {}, {}), wrong);
  await rejects(handled(() => { throw new RangeError('mine'); }, head, null, {}, {}), 'RangeError: mine');
  await rejects(handled(() => Response.error(), head, null, {}, {}), 'TypeError: Return value from serve handler must not be an error response (like Response.error())');
  const used = new Response('x');
  await used.text();
  await rejects(handled(() => used, head, null, {}, {}), 'TypeError: Body has already been used. It can only be used once. Use tee() first if you need to read it twice.');
});
test('the client goes away', async () => {
  let signal;
  let aborted = 0;
  let later = false;
  dispatch.setEvent(7);
  const { ctx, waits } = dispatch.context();
  await handled((request, env, c) => {
    signal = request.signal;
    signal.addEventListener('abort', () => { aborted++; });
    c.waitUntil(scheduler.wait(100).then(() => { later = true; }));
    return new Response('x');
  }, head, null, {}, ctx);
  dispatch.abort(7);
  dispatch.abort(7);
  equal([aborted, signal.aborted, signal.reason.name], [1, true, 'AbortError']);
  await waits.settled();
  equal(later, true);
  let late;
  dispatch.setEvent(8);
  await handled((request) => { late = request; return new Response(); }, head, null, {}, ctx);
  dispatch.done(8);
  dispatch.abort(8);
  equal(late.signal.aborted, false);
});
test('that the client has gone does not end what was asked on its behalf, but where that is said', async () => {
  host.answer = () => new Promise(() => {});
  const seen = [];
  dispatch.setEvent(9);
  handled(async (request) => {
    void request.signal;
    for (const [name, args] of [['same', [request]], ['new', [new Request(request, { body: null })]], ['said', ['http://x/', { signal: request.signal }]]]) fetch(...args).catch((error) => seen.push(`${name} ${error.name}`));
    const copy = request.clone();
    copy.signal.addEventListener('abort', () => seen.push('clone'));
    return new Promise(() => {});
  }, { ...head, method: 'GET' }, null, {}, {});
  await settle();
  dispatch.abort(9);
  await settle();
  equal(seen, ['clone', 'said AbortError']);
  dispatch.setEvent(1);
});
test('waitUntil', async () => {
  const { ctx, waits } = dispatch.context({ p: 1 });
  await waits.settled();
  ctx.waitUntil(Promise.reject(new Error('background')));
  ctx.waitUntil(5);
  ctx.passThroughOnException();
  await waits.settled();
  ok(host.lines[0].startsWith('error: Uncaught Error: background'), host.lines[0]);
  equal([ctx.props, Object.prototype.toString.call(ctx)], [{ p: 1 }, '[object ExecutionContext]']);
});
test('scheduled', async () => {
  let got;
  equal(await dispatch.scheduled((controller, env) => { got = [controller.cron, controller.scheduledTime, env]; }, '* * * * *', 5, 'env', {}), { retry: true });
  equal([got, await dispatch.scheduled((controller) => controller.noRetry(), 'x', 1, {}, {})], [['* * * * *', 5, 'env'], { retry: false }]);
});
test('errors as they are told', () => {
  const told = dispatch.describe(new TypeError('m'));
  equal([told.name, told.message, told.text.split('\n')[0]], ['TypeError', 'm', 'TypeError: m']);
  equal(dispatch.describe('text').message, 'text');
  equal(dispatch.describe({ get message() { throw 1; } }).message, '');
});
test('cloudflare:workers', async () => {
  dispatch.env.NAME = 'value';
  const workers = await import('cloudflare:workers');
  equal([Object.keys(workers), workers.env.NAME, workers.env === dispatch.env, typeof __workers], [['DurableObject', 'RpcTarget', 'WorkerEntrypoint', 'WorkflowEntrypoint', 'env'], 'value', true, 'undefined']);
  class Mine extends workers.DurableObject {}
  const mine = new Mine('ctx', 'env');
  equal([mine.ctx, mine.env, mine.constructor.name], ['ctx', 'env', 'Mine']);
});
