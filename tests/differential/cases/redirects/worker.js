const told = (error) => ({ name: error?.name, message: error?.message });
const attempt = async (run) => {
  try { return { value: await run() }; } catch (error) { return told(error); }
};

const answers = {
  async followed(origin) { const results = {}; for (const status of [301, 302, 303, 307, 308]) { const answer = await fetch(`${origin}/to/${status}`); results[status] = [answer.status, answer.redirected, new URL(answer.url).pathname, await answer.text()]; } return results; },
  async posted(origin) { const results = {}; for (const status of [301, 302, 303, 307, 308]) { const answer = await fetch(`${origin}/to/${status}`, { method: 'POST', body: 'body', headers: { 'x-own': '1' } }); results[status] = [answer.status, await answer.text()]; } return results; },
  async manual(origin) { const answer = await fetch(`${origin}/to/302`, { redirect: 'manual' }); return [answer.status, answer.headers.get('location'), answer.redirected, answer.type]; },
  async error(origin) { return attempt(async () => (await fetch(`${origin}/to/302`, { redirect: 'error' })).status); },
  async forwarded(origin, request) { const answer = await fetch(new Request(`${origin}/to/302`, request)); return [request.redirect, answer.status, answer.headers.get('location')]; },
  async changed(origin, request) { const answer = await fetch(new Request(new Request(`${origin}/to/302`, request), { redirect: 'follow' })); return [answer.status, await answer.text()]; },
  async streamed(origin) { return attempt(async () => (await fetch(`${origin}/to/307`, { method: 'POST', body: new ReadableStream({ start(controller) { controller.enqueue(new TextEncoder().encode('x')); controller.close(); } }) })).status); },
  async loop(origin) { const { name, message } = await attempt(async () => (await fetch(`${origin}/loop`)).status); return [name, message.startsWith('Too many redirects.')]; },
  async answers(origin) { const answer = await fetch(`${origin}/end`, { method: 'PUT', body: 'x' }); return { status: answer.status, ok: answer.ok, text: await answer.text(), kind: answer.headers.get('content-type'), immutable: await attempt(() => answer.headers.set('a', 'b')), own: answer.headers.get('x-origin'), cookies: answer.headers.getSetCookie(), body: answer.bodyUsed }; },
  async closed() { return attempt(async () => (await fetch('http://127.0.0.1:1/')).status); },
};
export default {
  async fetch(request) {
    return Response.json(await answers[new URL(request.url).pathname.slice(1)](request.headers.get('x-server'), request));
  },
};
