import { DurableObject } from 'cloudflare:workers';

export class Notes extends DurableObject {
  add(note) { this.ctx.storage.kv.put('notes', [...(this.ctx.storage.kv.get('notes') ?? []), note]); }
  all() { return this.ctx.storage.kv.get('notes') ?? []; }
}

export default {
  async fetch(request, env, ctx) {
    const notes = env.NOTES.getByName('one');
    const { pathname } = new URL(request.url);
    if (pathname === '/notes') return Response.json(await notes.all());
    if (pathname === '/after') {
      ctx.waitUntil(scheduler.wait(300).then(() => notes.add('went on after the answer')));
      return new Response('answered');
    }
    await notes.add('begun');
    ctx.waitUntil(scheduler.wait(500).then(() => notes.add('went on')));
    await scheduler.wait(2000);
    return new Response('late');
  },
};
