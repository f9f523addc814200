import { Container, getContainer, getRandom } from "@cloudflare/containers";

interface Env {
  MY_CONTAINER: DurableObjectNamespace<MyContainer>;
}

// Each object of this class has a container of its own, which its requests start.
export class MyContainer extends Container<Env> {
  defaultPort = 8080;
  sleepAfter = "10m";
  enableInternet = false;
  envVars = { MESSAGE: "Hello from a container that a Worker has started!" };

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

// Requests that any of so many containers may answer.
const REPLICAS = 3;

export default {
  async fetch(request: Request, env: Env): Promise<Response> {
    const [, route, id] = new URL(request.url).pathname.split("/");
    switch (route) {
      case "container":
        if (!id) return new Response("name a container: /container/ID\n", { status: 400 });
        return getContainer(env.MY_CONTAINER, id).fetch(request);
      case "lb":
        return (await getRandom(env.MY_CONTAINER, REPLICAS)).fetch(request);
      case "singleton":
        return getContainer(env.MY_CONTAINER).fetch(request);
      case "stop":
        await getContainer(env.MY_CONTAINER, id).stop();
        return new Response("told to stop\n");
      default:
        return new Response("/container/ID, /lb, /singleton, /stop/ID\n");
    }
  },
};
