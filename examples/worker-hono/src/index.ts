import { Container, getContainer, getRandom } from "@cloudflare/containers";
import { Hono } from "hono";

interface Env {
  MY_CONTAINER: DurableObjectNamespace<MyContainer>;
}

export class MyContainer extends Container<Env> {
  defaultPort = 8080;
  sleepAfter = "2m";
  enableInternet = false;
  envVars = { MESSAGE: "Hello from a container behind hono!" };

  override onStart() {
    console.log("the container has started");
  }

  override onStop() {
    console.log("the container has ended");
  }

  override onError(error: unknown) {
    console.log("the container has failed:", error);
  }
}

// Requests to /lb may be answered by any of so many containers.
const REPLICAS = 3;

const app = new Hono<{ Bindings: Env }>();

app.get("/", (c) => c.text("GET /container/ID, /lb, /singleton\n"));

app.get("/container/:id", (c) => getContainer(c.env.MY_CONTAINER, c.req.param("id")).fetch(c.req.raw));

app.get("/lb", async (c) => (await getRandom(c.env.MY_CONTAINER, REPLICAS)).fetch(c.req.raw));

app.get("/singleton", (c) => getContainer(c.env.MY_CONTAINER).fetch(c.req.raw));

app.notFound((c) => c.json({ error: `there is no ${c.req.path}` }, 404));

export default app;
