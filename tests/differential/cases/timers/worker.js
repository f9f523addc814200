const told = (error) => ({ name: error?.name, message: error?.message });
const attempt = async (run) => {
  try { return { value: await run() }; } catch (error) { return told(error); }
};

import { DurableObject } from 'cloudflare:workers';

export class Room extends DurableObject {
  fired = 0;
  note(count) { this.fired += count; }
  later() { setTimeout(() => { this.fired++; }, 50); return 'answered'; }
  count() { return this.fired; }
}

const answers = {
  async order() {
    const order = [];
    await new Promise((resolve) => {
      setTimeout(() => { order.push('b'); resolve(); }, 20);
      setTimeout((...args) => order.push(args), 5, 'x', 2);
      setTimeout(() => order.push('zero'));
      queueMicrotask(() => order.push('micro'));
      order.push('now');
    });
    return order;
  },
  async same() { const order = []; await Promise.all([1, 2, 3].map((n) => new Promise((resolve) => setTimeout(() => { order.push(n); resolve(); }, 5)))); return order; },
  async micro() {
    const order = [];
    await new Promise((resolve) => {
      setTimeout(() => { order.push('first'); Promise.resolve().then(() => order.push('between')); }, 5);
      setTimeout(() => { order.push('second'); resolve(); }, 5);
    });
    return order;
  },
  async cleared() {
    let count = 0;
    const one = setTimeout(() => count++, 1);
    clearTimeout(one);
    const two = setInterval(() => { if (++count === 3) clearInterval(two); }, 1);
    await scheduler.wait(50);
    clearTimeout(12345);
    
    return [count, typeof one, one !== two];
  },
  async wrong() { return [await attempt(() => setTimeout()), await attempt(() => setTimeout(5)), await attempt(() => typeof setTimeout(() => {}, 'x')), await attempt(() => typeof setTimeout(() => {}, -5)), await attempt(() => queueMicrotask(5)), await attempt(() => typeof setTimeout(() => {}, Infinity))]; },
  async left({ ROOM }) { setTimeout(() => ROOM.getByName('late').note(1), 50); return 'answered'; },
  async kept({ ROOM }, ctx) { ctx.waitUntil(scheduler.wait(300)); setTimeout(() => ROOM.getByName('late').note(10), 30); return 'answered'; },
  async late({ ROOM }) { return ROOM.getByName('late').count(); },
  async object({ ROOM }) { return ROOM.getByName('a').later(); },
  async fired({ ROOM }) { return ROOM.getByName('a').count(); },
  async waits() { return [await attempt(() => scheduler.wait(1)), await attempt(() => scheduler.wait()), await attempt(() => scheduler.wait('x'))]; },
  async time() {
    const [date, now] = [Date.now(), performance.now()];
    await scheduler.wait(20);
    return { whole: Number.isInteger(date), later: Date.now() >= date + 19, grows: performance.now() >= now + 19, origin: typeof performance.timeOrigin, year: new Date().getFullYear() >= 2026 };
  },
};

export default {
  async fetch(request, env, ctx) {
    const { pathname } = new URL(request.url);
    return Response.json(await answers[pathname.slice(1)](env, ctx, request) ?? null);
  },
};
