import { DurableObject } from 'cloudflare:workers';
import { Helper, helpers } from './helper.js';

const registry: Record<string, string[]> = {};

abstract class Base {
  static set tags(value: string[]) { registry[this.name] = value; }
  kind(): string { return this.constructor.name; }
}

class First extends Base { static { this.tags = ['one']; } }
const Second = class extends Base { static own = this.name; };
const Third = class Named extends Base {};
const arrow = () => 1;
enum Colour { Red, Green = 'green' }

export class Room extends DurableObject {
  readonly label = 'a label';
  constructor(ctx: DurableObjectState, env: unknown, private extra = 'default') { super(ctx, env); }
  names(): unknown { return [this.constructor.name, Object.getPrototypeOf(Room).name, this.label, Object.keys(this).sort()]; }
}

export default {
  async fetch(request: Request, env: { ROOM: DurableObjectNamespace }): Promise<Response> {
    const made = [new First(), new Second(), new Third()].map((one) => one.kind());
    return Response.json({
      made, registry, own: (Second as unknown as { own: string }).own, arrow: arrow.name, helper: [Helper.name, new Helper().constructor.name, helpers.map(({ name }) => name)],
      colours: Colour, room: await (env.ROOM as any).getByName('a').names(), text: `${First}`.startsWith('class First'),
    });
  },
} satisfies ExportedHandler;
