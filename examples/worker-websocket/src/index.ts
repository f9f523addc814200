import { Container, getContainer } from "@cloudflare/containers";

interface Env {
  ROOM: DurableObjectNamespace<Room>;
}

// Each room is an object with a container of its own.
export class Room extends Container<Env> {
  defaultPort = 8080;
  sleepAfter = "5m";
  enableInternet = false;
}

export default {
  async fetch(request: Request, env: Env): Promise<Response> {
    const [, route, name] = new URL(request.url).pathname.split("/");
    if (route !== "room" || !name) {
      return new Response("name a room: /room/NAME/\n", { status: 404 });
    }
    // The page and the WebSocket alike: `fetch` passes on an upgrade, too.
    return getContainer(env.ROOM, name).fetch(request);
  },
};
