import { DurableObject } from 'cloudflare:workers';

export class Room extends DurableObject {
  fetch(request) { throw new TypeError('in the object'); }
  throws() { throw new RangeError('in the method'); }
}

export default {
  async fetch(request, env, ctx) {
    const { pathname } = new URL(request.url);
    if (pathname === '/sync') throw new Error('thrown');
    if (pathname === '/object') return env.ROOM.getByName('a').fetch(request);
    if (pathname === '/method') return new Response(await env.ROOM.getByName('a').throws());
    if (pathname === '/through') { ctx.passThroughOnException(); throw new Error('passed'); }
    if (pathname === '/waiting') { ctx.waitUntil(Promise.reject(new Error('left'))); return new Response('answered'); }
    if (pathname === '/stream') return new Response(new ReadableStream({ pull(controller) { controller.error(new Error('of the body')); } }));
    if (pathname === '/never') { await new Promise(() => {}); }
    return new Response('well');
  },
};
