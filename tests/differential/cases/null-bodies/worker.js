const told = (error) => ({ name: error?.name, message: error?.message });
const attempt = async (run) => {
  try { return { value: await run() }; } catch (error) { return told(error); }
};

import { DurableObject } from 'cloudflare:workers';

export class Room extends DurableObject {
  fetch(request) {
    const status = Number(new URL(request.url).pathname.slice(1));
    return new Response([204, 304].includes(status) || status === 0 ? null : '', { status: status || 200 });
  }
}

const look = (response) => ({ status: response.status, body: response.body === null ? 'null' : typeof response.body, socket: response.webSocket, used: response.bodyUsed, length: response.headers.get('content-length'), type: response.headers.get('content-type') });
const answers = {
  async made() { return [look(new Response()), look(new Response(null)), look(new Response('')), look(new Response(undefined)), look(new Response(null, { status: 204 })), look(new Response(new Uint8Array(0)))]; },
  async object({ ROOM }) { const room = ROOM.getByName('a'); return [look(await room.fetch('http://x/204')), look(await room.fetch('http://x/304'))]; },
  async requests(env, ctx, request) { return [request.body === null, new Request('http://x.test/').body, new Request('http://x.test/', { method: 'POST' }).body, new Request('http://x.test/', { method: 'POST', body: '' }).body === null]; },
};

export default {
  async fetch(request, env, ctx) {
    const { pathname } = new URL(request.url);
    return Response.json(await answers[pathname.slice(1)](env, ctx, request) ?? null);
  },
};
