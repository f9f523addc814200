import { DurableObject } from 'cloudflare:workers';

export class Room extends DurableObject {
  order = [];

  constructor(ctx, env) {
    super(ctx, env);
    this.order.push('made');
    ctx.blockConcurrencyWhile(async () => {
      this.order.push('readying');
      await scheduler.wait(20);
      this.order.push('ready');
    });
  }

  // Waits for storage alone: what comes meanwhile waits with it.
  async reads(label) {
    this.order.push(`${label}1`);
    await this.ctx.storage.get('k');
    this.order.push(`${label}2`);
    await this.ctx.storage.get('k');
    this.order.push(`${label}3`);
  }

  // Waits for a timer: others go on meanwhile.
  async waits(label, ms) {
    this.order.push(`${label} begins`);
    await scheduler.wait(ms);
    this.order.push(`${label} ends`);
  }

  async alone(label, ms) {
    this.order.push(`${label} arrives`);
    const value = await this.ctx.blockConcurrencyWhile(async () => {
      this.order.push(`${label} begins`);
      await scheduler.wait(ms);
      await this.ctx.storage.put('by', label);
      this.order.push(`${label} ends`);
      return label;
    });
    this.order.push(`${label} goes on`);
    return value;
  }

  // A timer from outside the section comes after it.
  async timed() {
    const done = new Promise((resolve) => setTimeout(() => { this.order.push('timer'); resolve(); }, 5));
    await this.ctx.blockConcurrencyWhile(async () => {
      await scheduler.wait(40);
      this.order.push('section over');
    });
    await done;
  }

  async nested() {
    await this.ctx.blockConcurrencyWhile(async () => {
      this.order.push('outer begins');
      await this.ctx.blockConcurrencyWhile(async () => {
        this.order.push('inner begins');
        await scheduler.wait(5);
        this.order.push('inner ends');
      });
      this.order.push('outer ends');
    });
  }

  take() {
    const { order } = this;
    this.order = [];
    return order;
  }
}

const answers = {
  async first(room) { await Promise.all([room.reads('a'), room.reads('b')]); },
  async reads(room) { await Promise.all([room.reads('a'), room.reads('b'), room.reads('c')]); },
  async waits(room) { await Promise.all([room.waits('long', 60), room.waits('short', 5)]); },
  async alone(room) { await Promise.all([room.waits('before', 10), room.alone('x', 30), room.reads('after')]); },
  async two(room) { return Promise.all([room.alone('x', 20), room.alone('y', 5), room.alone('z', 1)]); },
  async timed(room) { await room.timed(); },
  async nested(room) { await Promise.all([room.nested(), room.reads('a')]); },
};

export default {
  async fetch(request, env) {
    const room = env.ROOM.getByName('one');
    const value = await answers[new URL(request.url).pathname.slice(1)](room);
    return Response.json({ value: value ?? null, order: await room.take() });
  },
};
