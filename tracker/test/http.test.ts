/**
 * Against a real server of HTTP, which is stopped and started, cuts connections and lies about nothing.
 */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { afterEach, describe, expect, it } from "vitest";

import type { Batch } from "../src/event.js";
import { UserTracker } from "../src/tracker.js";
import { FakeLocks, FakeStorage, ok, seeded, Tab } from "./world.js";

type Handle = (batch: Batch, response: ServerResponse) => void;

/** A server that comes and goes at one port. */
class Collector {
  #server: Server | undefined;
  readonly #sockets = new Set<Socket>();
  port = 0;
  /** How often each id was received in a request that was answered with success. */
  readonly stored = new Map<string, number>();
  readonly requests: { readonly head: IncomingMessage["headers"]; readonly body: string }[] = [];
  handle: Handle = (batch, response) => this.store(batch, response);

  async start(): Promise<void> {
    const server = createServer((request, response) => {
      let body = "";
      request.setEncoding("utf8");
      request.on("data", (part: string) => (body += part));
      request.on("end", () => {
        this.requests.push({ head: request.headers, body });
        this.handle(JSON.parse(body) as Batch, response);
      });
    });
    server.on("connection", (socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
    });
    await new Promise<void>((listening) => server.listen(this.port, "127.0.0.1", listening));
    this.port = (server.address() as AddressInfo).port;
    this.#server = server;
  }

  async stop(): Promise<void> {
    const closed = new Promise((done) => (this.#server ? this.#server.close(done) : done(undefined)));
    this.#sockets.forEach((socket) => socket.destroy());
    await closed;
    this.#server = undefined;
  }

  keep(batch: Batch): void {
    for (const { event_id: id } of batch.events) {
      this.stored.set(id, (this.stored.get(id) ?? 0) + 1);
    }
  }

  store(batch: Batch, response: ServerResponse): void {
    this.keep(batch);
    response.writeHead(200, { "content-type": "application/json" }).end('{"status":"ok"}');
  }
}

/** A tab whose requests go over the network, with pauses a hundred times as short. */
function networked(collector: Collector, storage = new FakeStorage(), locks = new FakeLocks()): UserTracker {
  const tab = new Tab(ok, storage, locks);
  const over = Object.assign(tab, {
    fetch: (url: string, init: RequestInit) => fetch(`http://127.0.0.1:${collector.port}${url}`, init),
    random: () => 0,
  });
  const settings = { endpointUrl: "/track", appName: "shop", appVersion: "1", batchSize: 5, flushInterval: 20 };
  return new UserTracker({ ...settings, log: () => undefined }, over);
}

async function until(what: string, holds: () => boolean): Promise<void> {
  const end = Date.now() + 20_000;
  while (!holds()) {
    if (Date.now() > end) {
      throw new Error(`it never came: ${what}`);
    }
    await new Promise((looked) => setTimeout(looked, 10));
  }
}

describe("over HTTP", () => {
  const collector = new Collector();
  const trackers: UserTracker[] = [];
  afterEach(async () => {
    trackers.splice(0).forEach((tracker) => tracker.stop());
    await collector.stop();
    collector.stored.clear();
    collector.handle = (batch, response) => collector.store(batch, response);
  });

  it("a batch is JSON, and says so", async () => {
    await collector.start();
    const tracker = networked(collector);
    trackers.push(tracker);
    const id = tracker.track("CLICK", { component: "Käse 😀" });
    expect(await tracker.flush()).toBe(0);
    const { head, body } = collector.requests.at(-1) ?? { head: {}, body: "{}" };
    expect(head["content-type"]).toBe("application/json");
    expect(JSON.parse(body)).toMatchObject({
      events: [{ event_id: id, component_name: "Käse 😀" }],
      appName: "shop",
      appVersion: "1",
    });
  });

  it("each event is there once when the server is stopped and started in between", async () => {
    await collector.start();
    const tracker = networked(collector);
    trackers.push(tracker);
    const ids: (string | undefined)[] = [];
    for (let round = 0; round < 4; round += 1) {
      for (let at = 0; at < 17; at += 1) {
        ids.push(tracker.track("CLICK"));
      }
      await tracker.flush();
      await collector.stop();
      for (let at = 0; at < 8; at += 1) {
        ids.push(tracker.track("HOVER_ENTER"));
      }
      expect(await tracker.flush()).toBeGreaterThan(0);
      await collector.start();
      await tracker.flush();
    }
    await until("all of it", () => tracker.waiting === 0);
    expect([...collector.stored.keys()].sort()).toEqual([...ids].sort());
    expect(new Set(collector.stored.values())).toEqual(new Set([1]));
  });

  it("an event comes twice only when its answer was lost, and then under one id", async () => {
    await collector.start();
    const random = seeded(7);
    const unanswered = new Set<string>();
    collector.handle = (batch, response) => {
      const lot = random();
      if (lot < 0.3) {
        collector.keep(batch);
        batch.events.forEach(({ event_id }) => unanswered.add(event_id));
        response.destroy();
      } else if (lot < 0.4) {
        response.destroy();
      } else if (lot < 0.5) {
        response.writeHead(503, { "retry-after": "0" }).end();
      } else {
        collector.store(batch, response);
      }
    };
    const tracker = networked(collector);
    trackers.push(tracker);
    const ids = Array.from({ length: 100 }, () => tracker.track("CLICK"));
    await until("all of it", () => {
      void tracker.flush();
      return tracker.waiting === 0;
    });
    expect([...collector.stored.keys()].sort()).toEqual([...ids].sort());
    const twice = [...collector.stored].filter(([, times]) => times > 1).map(([id]) => id);
    expect(twice.length).toBeGreaterThan(0);
    expect(twice.filter((id) => !unanswered.has(id))).toEqual([]);
  });
});
