const told = (error) => ({ name: error?.name, message: error?.message });
const attempt = async (run) => {
  try { return { value: await run() }; } catch (error) { return told(error); }
};

import { DurableObject, WorkerEntrypoint, RpcTarget, env as imported } from 'cloudflare:workers';

const atFirst = imported.TEXT;
export class Room extends DurableObject {
  sees() { return [this.env.TEXT, Object.keys(this.env).sort(), this.ctx.id.name, typeof this.ctx.storage, Object.keys(this).sort(), this.ctx.container ?? 'none']; }
}

const answers = {
  async env(env) { return { env: Object.keys(env).sort(), text: env.TEXT, json: env.JSON_VALUE, imported: imported.TEXT, first: atFirst, same: imported.JSON_VALUE?.a }; },
  async ctx(env, ctx) { return { kinds: ['waitUntil', 'passThroughOnException', 'abort'].map((name) => typeof ctx[name]), props: ctx.props ?? 'none', exports: typeof ctx.exports, tag: String(ctx) }; },
  async exports(env, ctx) { return [Object.keys(ctx.exports).sort(), await ctx.exports.Room.getByName('a').sees()]; },
  async globals() {
    const names = ['Buffer', 'process', 'global', 'window', 'self', 'globalThis', 'navigator', 'caches', 'crypto', 'WebSocketPair', 'HTMLRewriter', 'fetch', 'structuredClone', 'performance', 'require', 'module', 'document', 'XMLHttpRequest', 'importScripts', 'setImmediate', 'reportError', 'scheduler', 'Cloudflare'];
    return Object.fromEntries(names.map((name) => [name, typeof globalThis[name]]));
  },
  async agent() { return [navigator.userAgent, typeof navigator.hardwareConcurrency, self === globalThis, String(globalThis)]; },
  async wait(env, ctx) { return [await attempt(() => ctx.waitUntil()), await attempt(() => ctx.waitUntil(5)), await attempt(() => { const { waitUntil } = ctx; waitUntil(Promise.resolve()); })]; },
  async classes() { return [typeof DurableObject, typeof WorkerEntrypoint, typeof RpcTarget, DurableObject.name, await attempt(() => new DurableObject()), await attempt(() => typeof new RpcTarget())]; },
};

export default {
  async fetch(request, env, ctx) {
    const { pathname } = new URL(request.url);
    return Response.json(await answers[pathname.slice(1)](env, ctx, request) ?? null);
  },
};
