import { DurableObject } from 'cloudflare:workers';

const told = (error) => ({ name: error?.name, message: error?.message });
const attempt = async (run) => {
  try { return { value: await run() }; } catch (error) { return told(error); }
};

export class Clock extends DurableObject {
  async alarm(info) {
    const { kv } = this.ctx.storage;
    const seen = kv.get('seen') ?? [];
    kv.put('seen', [...seen, info.retryCount > 0 ? 'a retry' : 'the first']);
    await this.ctx.storage.sync();
    if (kv.get('fails') && seen.length === 0) throw new Error('fails once');
    kv.put('done', true);
  }

  async set(ms, fails) {
    this.ctx.storage.kv.put('fails', fails);
    await this.ctx.storage.setAlarm(Date.now() + ms);
  }

  async state() { return { seen: this.ctx.storage.kv.get('seen') ?? [], done: this.ctx.storage.kv.get('done') ?? false, alarm: (await this.ctx.storage.getAlarm()) !== null, name: this.ctx.id.name ?? null }; }

  async finished() {
    for (let tries = 0; tries < 600 && !this.ctx.storage.kv.get('done'); tries++) await scheduler.wait(20);
    return this.state();
  }

  async tried() {
    for (let tries = 0; tries < 600 && !this.ctx.storage.kv.get('seen'); tries++) await scheduler.wait(20);
    return this.state();
  }
}

const answers = {
  async set({ CLOCK }) { await CLOCK.getByName('a').set(1500, false); return 'set'; },
  async finished({ CLOCK }) { return CLOCK.getByName('a').finished(); },
  async fails({ CLOCK }) { await CLOCK.getByName('b').set(1, true); return (await CLOCK.getByName('b').tried()).seen; },
  async tried({ CLOCK }) { const { seen, done } = await CLOCK.getByName('b').finished(); return { first: seen[0], more: seen.length > 1, done }; },
};

export default {
  async fetch(request, env, ctx) {
    const { pathname } = new URL(request.url);
    return Response.json(await answers[pathname.slice(1)](env, ctx, request) ?? null);
  },
};
