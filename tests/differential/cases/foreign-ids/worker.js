import { DurableObject } from 'cloudflare:workers';

const told = (error) => ({ name: error?.name, message: error?.message });
const attempt = async (run) => {
  try { return { value: await run() }; } catch (error) { return told(error); }
};

const shown = (value) => {
  if (value instanceof Map) return { map: [...value].map(([key, inner]) => [key, shown(inner)]) };
  if (value === undefined) return 'undefined';
  return value;
};

export class Room extends DurableObject { hello() { return 'room'; } }
export class Hall extends DurableObject { hello() { return 'hall'; } }

const answers = {
  async string({ ROOM, HALL }) { return [await attempt(async () => HALL.idFromString(String(ROOM.idFromName('a')))), await attempt(async () => ROOM.idFromString(String(HALL.newUniqueId())))]; },
  async get({ ROOM, HALL }) { return [await attempt(async () => HALL.get(ROOM.idFromName('a')).hello()), await attempt(async () => HALL.get(ROOM.newUniqueId()))]; },
  async invented({ ROOM }) { return attempt(async () => ROOM.idFromString('0123456789abcdef'.repeat(4))); },
  async equal({ ROOM, HALL }) { return [ROOM.idFromName('a').equals(HALL.idFromName('a')), String(ROOM.idFromName('a')) === String(HALL.idFromName('a'))]; },
  async own({ ROOM }) { const id = ROOM.newUniqueId(); return ROOM.get(ROOM.idFromString(String(id).toUpperCase())).hello(); },
};

export default {
  async fetch(request, env, ctx) {
    const { pathname } = new URL(request.url);
    return Response.json(await answers[pathname.slice(1)](env, ctx, request) ?? null);
  },
};
