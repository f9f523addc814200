import { DurableObject, env } from 'cloudflare:workers';
import { current, settings } from './settings.js';

const told = (error) => ({ name: error?.name, message: error?.message?.split(' https:')[0] });
const attempt = async (run) => {
  try { return { value: await run() }; } catch (error) { return told(error); }
};

const first = { names: Object.keys(env).sort(), kind: String(env.ROOM), id: typeof env.ROOM.idFromName('a').toString(), has: 'TEXT' in env, missing: env.NOTHING ?? 'none' };
const early = {
  call: await attempt(() => env.ROOM.getByName('a').greets()), fetch: await attempt(() => fetch('http://x.test/')), timer: await attempt(() => typeof setTimeout(() => {}, 1)),
  random: await attempt(() => crypto.randomUUID().length), unique: await attempt(() => typeof env.ROOM.newUniqueId()),
};

export class Room extends DurableObject {
  own = env.TEXT;
  greets(who) { return `the object greets ${who}: ${this.own}, ${this.env.TEXT}`; }
  others() { return this.ctx.exports.Room.getByName('other').greets('from an object'); }
}

const answers = {
  async first() { return { first, settings }; },
  async early() { return early; },
  async later(given) { return { text: env.TEXT, same: current() === env, given: Object.keys(given).sort(), list: given.LIST }; },
  async objects(given, ctx) { return [await ctx.exports.Room.getByName('a').greets('all'), await ctx.exports.Room.get(ctx.exports.Room.idFromName('a')).others(), String(ctx.exports.Room.idFromName('a')) === String(given.ROOM.idFromName('a'))]; },
};

export default {
  async fetch(request, given, ctx) {
    const { pathname } = new URL(request.url);
    return Response.json(await answers[pathname.slice(1)](given, ctx) ?? null);
  },
};
