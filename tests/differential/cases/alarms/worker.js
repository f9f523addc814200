import { DurableObject } from 'cloudflare:workers';

const told = (error) => ({ name: error?.name, message: error?.message });
const attempt = async (run) => {
  try { return { value: await run() }; } catch (error) { return told(error); }
};

// Waits until the object says so.
const until = async (stub, what) => {
  for (let tries = 0; tries < 1200; tries++) {
    const state = await stub.state();
    if (state.log.some((line) => line.startsWith(what))) return state;
    await scheduler.wait(20);
  }
  return stub.state();
};

export class Clock extends DurableObject {
  log = [];
  running = 0;

  async alarm(info) {
    const mode = this.ctx.storage.kv.get('mode');
    this.running++;
    this.log.push(`rings ${info.retryCount} ${info.isRetry} ${this.running} ${await this.ctx.storage.getAlarm()} ${typeof info.scheduledTime}`);
    if (mode === 'again' && this.log.length < 4) await this.ctx.storage.setAlarm(Date.now() + 10);
    if (mode === 'long') await scheduler.wait(150);
    if (mode === 'deletes') await this.ctx.storage.deleteAlarm();
    if (mode === 'fails' && info.retryCount < 2) { this.running--; throw new Error(`fails ${info.retryCount}`); }
    if (mode === 'fails and sets' && this.log.length < 2) { await this.ctx.storage.setAlarm(Date.now() + 50); this.running--; throw new Error('fails'); }
    this.running--;
    this.log.push('done');
    if (mode !== 'again' || this.log.length >= 6) this.log.push('over');
  }

  async set(mode, ms) {
    this.ctx.storage.kv.put('mode', mode);
    await this.ctx.storage.setAlarm(ms <= 0 && mode === 'past' ? 1 : Date.now() + ms);
  }

  async far(time) {
    await this.ctx.storage.setAlarm(time);
    const first = await this.ctx.storage.getAlarm();
    await this.ctx.storage.setAlarm(new Date(4102444800123));
    const second = await this.ctx.storage.getAlarm();
    await this.ctx.storage.deleteAlarm();
    return [first, second, await this.ctx.storage.getAlarm()];
  }

  async wrong() {
    const { storage } = this.ctx;
    return [await attempt(() => storage.setAlarm(0)), await attempt(() => storage.setAlarm(-1)), await attempt(() => storage.setAlarm(NaN)), await attempt(() => storage.setAlarm()), await attempt(() => storage.setAlarm('soon')), await storage.getAlarm()];
  }

  async state() { return { log: this.log, alarm: await this.ctx.storage.getAlarm() }; }
}

export class Mute extends DurableObject {
  async set() { return attempt(() => this.ctx.storage.setAlarm(4102444800000)); }
  async get() { return this.ctx.storage.getAlarm(); }
}

const answers = {
  async past({ CLOCK }) { const one = CLOCK.getByName('past'); await one.set('past', 0); return until(one, 'over'); },
  async soon({ CLOCK }) { const one = CLOCK.getByName('soon'); await one.set('soon', 30); return until(one, 'over'); },
  async again({ CLOCK }) { const one = CLOCK.getByName('again'); await one.set('again', 5); await until(one, 'over'); return one.state(); },
  async deletes({ CLOCK }) { const one = CLOCK.getByName('deletes'); await one.set('deletes', 5); return until(one, 'over'); },
  async fails({ CLOCK }) { const one = CLOCK.getByName('fails'); await one.set('fails', 5); return until(one, 'over'); },
  async sets({ CLOCK }) { const one = CLOCK.getByName('sets'); await one.set('fails and sets', 5); return until(one, 'over'); },
  async overlap({ CLOCK }) {
    const one = CLOCK.getByName('overlap');
    await one.set('long', 5);
    await until(one, 'rings');
    // A request is answered while the handler runs, and sets the next.
    const during = await one.state();
    await one.set('long', 1);
    await scheduler.wait(400);
    return [during.log.length, during.alarm, await one.state()];
  },
  async far({ CLOCK }) { return CLOCK.getByName('far').far(4102444800000.7); },
  async wrong({ CLOCK }) { return CLOCK.getByName('wrong').wrong(); },
  async mute({ MUTE }) { const one = MUTE.getByName('a'); return [await one.set(), await one.get()]; },
};

export default {
  async fetch(request, env, ctx) {
    const { pathname } = new URL(request.url);
    return Response.json(await answers[pathname.slice(1)](env, ctx, request) ?? null);
  },
};
