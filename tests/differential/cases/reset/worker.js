import { DurableObject } from 'cloudflare:workers';

const told = (error) => ({ name: error?.name, message: error?.message });
const attempt = async (run) => {
  try { return { value: await run() }; } catch (error) { return told(error); }
};

export class Room extends DurableObject {
  count = 0;

  next() { return ++this.count; }

  async caught() {
    await this.ctx.storage.put('kept', 'before');
    try {
      await this.ctx.blockConcurrencyWhile(async () => { throw new RangeError('of the section'); });
    } catch (error) {
      return `caught ${error.message}`;
    }
  }

  async uncaught() {
    await this.ctx.blockConcurrencyWhile(async () => {
      await scheduler.wait(1);
      throw new TypeError('of the section');
    });
  }

  // The object goes on only after an error within that was caught within.
  async within() {
    return this.ctx.blockConcurrencyWhile(async () => {
      try { throw new Error('within'); } catch (error) { return error.message; }
    });
  }

  async aborts(reason) { this.ctx.abort(...(reason === undefined ? [] : [reason])); }

  async wrote() {
    this.ctx.storage.put('lost', 'x');
    this.ctx.abort('after a write');
  }

  async read() { return [await this.ctx.storage.get('kept'), await this.ctx.storage.get('lost')].map(String); }
}

export class Fragile extends DurableObject {
  constructor(ctx, env) {
    super(ctx, env);
    ctx.blockConcurrencyWhile(async () => { throw new Error('never made'); });
  }

  hello() { return 'hello'; }
}

export class Broken extends DurableObject {
  constructor(ctx, env) { super(ctx, env); throw new RangeError('in the constructor'); }

  hello() { return 'hello'; }
}

const flags = (error) => ({ ...told(error), reset: error.durableObjectReset, retryable: error.retryable, overloaded: error.overloaded, remote: error.remote });
const flagged = async (run) => { try { return { value: await run() }; } catch (error) { return flags(error); } };

const answers = {
  async caught({ ROOM }) {
    const stub = ROOM.getByName('caught');
    return [await stub.next(), await flagged(() => stub.caught()), await flagged(() => stub.next()), await flagged(() => ROOM.getByName('caught').next()), await ROOM.getByName('caught').read()];
  },
  async uncaught({ ROOM }) {
    const stub = ROOM.getByName('uncaught');
    const first = await stub.next();
    return [first, await flagged(() => stub.uncaught()), await flagged(() => stub.next()), await ROOM.getByName('uncaught').next()];
  },
  async within({ ROOM }) { const stub = ROOM.getByName('within'); return [await stub.next(), await stub.within(), await stub.next()]; },
  async beside({ ROOM }) {
    const stub = ROOM.getByName('beside');
    await stub.next();
    return Promise.all([flagged(() => stub.uncaught()), flagged(() => stub.next()), flagged(() => stub.next())]);
  },
  async abort({ ROOM }) {
    const results = [];
    for (const reason of [undefined, 'as asked']) {
      const stub = ROOM.getByName('abort');
      results.push(await stub.next(), await flagged(() => stub.aborts(reason)), await flagged(() => stub.next()));
    }
    return results;
  },
  async wrote({ ROOM }) { return [await flagged(() => ROOM.getByName('wrote').wrote()), await ROOM.getByName('wrote').read()]; },
  async fragile({ FRAGILE }) { return [await flagged(() => FRAGILE.getByName('a').hello()), await flagged(() => FRAGILE.getByName('a').hello())]; },
  async broken({ BROKEN }) { return [await flagged(() => BROKEN.getByName('a').hello()), await flagged(() => BROKEN.getByName('a').fetch('http://x/'))]; },
};

export default {
  async fetch(request, env, ctx) {
    const { pathname } = new URL(request.url);
    return Response.json(await answers[pathname.slice(1)](env, ctx, request) ?? null);
  },
};
