import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { EVENT_BYTES_MAX, QUEUE_EVENTS_MAX } from "../src/limits.js";
import { FakeLocks, FakeStorage, ok, status, Tab, tracker } from "./world.js";

beforeEach(() => {
  vi.useFakeTimers({ now: Date.UTC(2026, 0, 1) });
});
afterEach(() => {
  vi.useRealTimers();
});

const pass = (ms: number): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);

describe("a batch", () => {
  it("goes when it is full", async () => {
    const tab = new Tab(ok);
    const { tracked } = tracker(tab, { batchSize: 3 });
    const ids = [1, 2, 3].map(() => tracked.track("CLICK"));
    await pass(0);
    expect(tab.posted).toHaveLength(1);
    expect(tab.ids).toEqual(ids);
    expect(tracked.waiting).toBe(0);
  });

  it("goes after the interval when it is not full, and not before", async () => {
    const tab = new Tab(ok);
    const { tracked } = tracker(tab, { batchSize: 3, flushInterval: 2_000 });
    tracked.track("CLICK");
    await pass(1_000);
    tracked.track("CLICK");
    await pass(999);
    expect(tab.posted).toHaveLength(0);
    await pass(1);
    expect(tab.posted.map(({ events }) => events.length)).toEqual([2]);
  });

  it("has the fields that the server expects, and no others", async () => {
    const tab = new Tab(ok);
    const { tracked } = tracker(tab, { appName: "a \"b\"", appVersion: "2" });
    tracked.setMetadata({ user: 7, plan: "free" });
    tracked.track("CLICK", { component: "Buy", metadata: { plan: "paid", deep: { list: [1, "x"] } } });
    tracked.pageView();
    await tracked.flush();
    const page = { page_path: "/shop", page_title: "Shop", timestamp: Date.UTC(2026, 0, 1) };
    expect(tab.posted).toEqual([
      {
        events: [
          {
            ...page,
            event_id: expect.stringMatching(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/),
            event_type: "CLICK",
            location_type: "COMPONENT",
            component_name: "Buy",
            user_metadata: { user: 7, plan: "paid", deep: { list: [1, "x"] } },
          },
          {
            ...page,
            event_id: expect.any(String),
            event_type: "PAGE_VIEW",
            location_type: "PAGE",
            user_metadata: { user: 7, plan: "free" },
          },
        ],
        appName: "a \"b\"",
        appVersion: "2",
      },
    ]);
  });

  it("carries at most `batchSize` events, one request after the other", async () => {
    let open = 0;
    let most = 0;
    const tab = new Tab(async () => {
      most = Math.max(most, (open += 1));
      await new Promise((answered) => setTimeout(answered, 50));
      open -= 1;
      return ok();
    });
    const { tracked } = tracker(tab, { batchSize: 4 });
    const ids = Array.from({ length: 10 }, () => tracked.track("CLICK"));
    await pass(1_000);
    expect(tab.posted.map(({ events }) => events.length)).toEqual([4, 4, 2]);
    expect(tab.ids).toEqual(ids);
    expect(most).toBe(1);
  });
});

describe("a failure", () => {
  it.each([
    ["no network", () => Promise.reject(new TypeError("Failed to fetch"))],
    ["408", status(408)],
    ["429", status(429)],
    ["500", status(500)],
    ["503", status(503)],
  ])("of %s is tried again with the same ids and growing pauses", async (_name, answer) => {
    const tab = new Tab(answer);
    const { tracked } = tracker(tab, { batchSize: 1 });
    const id = tracked.track("CLICK");
    const times = [0];
    for (let tenth = 1; times.length < 9; tenth += 1) {
      await pass(100);
      if (tab.posted.length > times.length) {
        times.push(tenth / 10);
      }
    }
    expect(new Set(tab.ids)).toEqual(new Set([id]));
    const pauses = times.slice(1).map((time, at) => time - (times[at] ?? 0));
    // 1, 2, 4 … 60 s, of which `random` takes a quarter.
    [0.75, 1.5, 3, 6, 12, 24, 45, 45].forEach((pause, at) => expect(Math.abs((pauses[at] ?? 0) - pause)).toBeLessThan(0.2));
    tab.answer = ok;
    await pass(60_000);
    expect(tracked.waiting).toBe(0);
  });

  it("with `Retry-After` waits at least as long, whatever happens meanwhile", async () => {
    const tab = new Tab(status(503, { "retry-after": "120" }));
    const { tracked } = tracker(tab, { batchSize: 1 });
    tracked.track("CLICK");
    await pass(0);
    tab.answer = ok;
    tracked.track("CLICK");
    tab.window.dispatchEvent(new Event("online"));
    await tracked.flush();
    await pass(119_900);
    expect(tab.posted).toHaveLength(1);
    await pass(1_100);
    expect(tracked.waiting).toBe(0);
  });

  it("is not waited for when the network comes back", async () => {
    const tab = new Tab(() => Promise.reject(new TypeError("offline")));
    const { tracked } = tracker(tab, { batchSize: 1 });
    tracked.track("CLICK");
    await pass(30_000);
    tab.answer = ok;
    tab.window.dispatchEvent(new Event("online"));
    await pass(0);
    expect(tracked.waiting).toBe(0);
  });

  it.each([400, 401, 403, 404, 413, 422])("of %i drops the batch into the log, and the next one goes", async (code) => {
    const tab = new Tab(status(code));
    const { tracked, said } = tracker(tab, { batchSize: 2 });
    const ids = [tracked.track("CLICK"), tracked.track("CLICK")];
    await pass(0);
    expect(tracked.waiting).toBe(0);
    expect(said).toHaveLength(1);
    expect(said[0]?.message).toContain(`status ${code}`);
    expect(said[0]?.detail).toEqual(ids.map((id) => expect.objectContaining({ event_id: id })));
    tab.answer = ok;
    tracked.track("CLICK");
    await tracked.flush();
    expect(tab.posted).toHaveLength(2);
  });

  it("of single events of a batch that was taken is heard of, too", async () => {
    const tab = new Tab(() => Response.json({ status: "ok" }, { headers: { "events-rejected": "1" } }));
    const { tracked, said } = tracker(tab, { batchSize: 2 });
    const ids = [tracked.track("CLICK"), tracked.track("CLICK")];
    await pass(0);
    expect(tracked.waiting).toBe(0);
    expect(said).toEqual([{ message: expect.stringContaining("but for 1 of its events"), detail: ids }]);
  });

  it("of a server that never answers is one after 30 s", async () => {
    const tab = new Tab(() => new Promise<never>(() => undefined));
    const { tracked } = tracker(tab, { batchSize: 1 });
    const id = tracked.track("CLICK");
    await pass(29_900);
    expect(tab.posted).toHaveLength(1);
    tab.answer = ok;
    await pass(2_000);
    expect(tab.ids).toEqual([id, id]);
    expect(tracked.waiting).toBe(0);
  });
});

describe("what waits", () => {
  it("is bounded, and the oldest goes first", async () => {
    const tab = new Tab(() => Promise.reject(new TypeError("offline")), new FakeStorage(), new FakeLocks());
    const { tracked, said } = tracker(tab);
    tracked.start();
    await pass(0);
    const ids = Array.from({ length: QUEUE_EVENTS_MAX + 5 }, () => tracked.track("CLICK"));
    expect(tracked.waiting).toBe(QUEUE_EVENTS_MAX);
    const dropped = said.flatMap(({ detail }) => (detail as { dropped: string[] }).dropped);
    // The first ten were in flight, and those are not dropped.
    expect(dropped).toEqual(ids.slice(10, 15));
    const { storage } = tab;
    expect(storage?.length).toBe(QUEUE_EVENTS_MAX);
  });

  it("is bounded in bytes too", async () => {
    const tab = new Tab(() => Promise.reject(new TypeError("offline")), new FakeStorage(), new FakeLocks());
    const { tracked } = tracker(tab);
    for (let at = 0; at < 200; at += 1) {
      tracked.track("CLICK", { metadata: { text: "ä".repeat(7_000) } });
    }
    await pass(10);
    expect(tracked.waiting).toBeLessThan(75);
    expect(tracked.waiting).toBeGreaterThan(70);
  });

  it("is in memory when storage is full, and goes nevertheless", async () => {
    const storage = new FakeStorage();
    storage.quota = 1_500;
    const tab = new Tab(ok, storage, new FakeLocks());
    const { tracked, said } = tracker(tab, { batchSize: 20 });
    tracked.start();
    await pass(0);
    const ids = Array.from({ length: 20 }, () => tracked.track("CLICK"));
    await pass(0);
    expect(tab.ids).toEqual(ids);
    expect(said.map(({ message }) => message)).toEqual([expect.stringContaining("storage takes no more")]);
    expect(storage.length).toBe(0);
  });

  it("survives the page, under its version", async () => {
    const storage = new FakeStorage();
    const locks = new FakeLocks();
    const first = new Tab(() => Promise.reject(new TypeError("offline")), storage, locks);
    const { tracked: old } = tracker(first);
    old.start();
    await pass(0);
    const ids = [old.track("CLICK"), old.track("CLICK")];
    first.kill(old);
    const second = new Tab(ok, storage, locks);
    const { tracked } = tracker(second, { appVersion: "2.0.0" });
    ids.push(tracked.track("CLICK"));
    await pass(10_000);
    const sent = second.posted.map(({ events, appVersion }) => [appVersion, events.map(({ event_id }) => event_id)]);
    expect(sent).toContainEqual(["1.0.0", ids.slice(0, 2)]);
    expect(sent).toContainEqual(["2.0.0", ids.slice(2)]);
    expect(sent).toHaveLength(2);
    expect(storage.length).toBe(0);
  });
});

describe("a page that is hidden", () => {
  it("hands what waits to a beacon, keeps it, and confirms it later under the same id", async () => {
    const storage = new FakeStorage();
    const tab = new Tab(ok, storage, new FakeLocks());
    const { tracked } = tracker(tab, { appVersion: "3" });
    tracked.start();
    await pass(0);
    const ids = [tracked.track("CLICK"), tracked.track("HOVER_ENTER")];
    tab.hide();
    expect(tab.beacons[0]?.type).toBe("application/json");
    expect((await tab.beaconed()).map(({ event_id }) => event_id)).toEqual(ids);
    expect(storage.length).toBe(2);
    tab.show();
    tab.hide();
    expect(tab.beacons).toHaveLength(1);
    await pass(5_000);
    expect(tab.ids).toEqual(ids);
    expect(storage.length).toBe(0);
  });

  it("does not send by a beacon what a request carries", async () => {
    const tab = new Tab(() => new Promise<never>(() => undefined));
    const { tracked } = tracker(tab, { batchSize: 2 });
    tracked.track("CLICK");
    tracked.track("CLICK");
    await pass(0);
    const third = tracked.track("CLICK");
    tab.hide();
    expect((await tab.beaconed()).map(({ event_id }) => event_id)).toEqual([third]);
  });

  it("keeps beacon and request together below 64 KiB; the rest stays in storage", async () => {
    const storage = new FakeStorage();
    let inFlight = 0;
    const tab = new Tab(({ init }) => {
      inFlight += init.keepalive ? String(init.body).length : 0;
      return new Promise<never>(() => undefined);
    }, storage, new FakeLocks());
    const { tracked } = tracker(tab, { batchSize: 20 });
    tracked.start();
    await pass(0);
    for (let at = 0; at < 120; at += 1) {
      tracked.track("CLICK", { metadata: { text: "x".repeat(700) } });
    }
    await pass(0);
    tab.hide();
    const size = tab.beacons.reduce((sum, blob) => sum + blob.size, 0);
    expect(inFlight).toBeGreaterThan(15_000);
    expect(size).toBeGreaterThan(40_000);
    expect(size + inFlight).toBeLessThan(64 << 10);
    expect(storage.length).toBe(120);
  });

  it("sends as much as the browser still takes", async () => {
    const tab = new Tab(ok);
    tab.beaconBytes = 5_000;
    const { tracked } = tracker(tab, { batchSize: 500 });
    for (let at = 0; at < 64; at += 1) {
      tracked.track("CLICK");
    }
    tab.hide();
    const sent = (await tab.beaconed()).length;
    expect(sent).toBeGreaterThan(10);
    expect(sent).toBeLessThan(64);
  });

  it("sends what the application says while the page goes", async () => {
    const tab = new Tab(ok, new FakeStorage(), new FakeLocks());
    const { tracked } = tracker(tab);
    tracked.start();
    await pass(0);
    tab.leave();
    const last = tracked.track("PAGE_LEAVE");
    expect((await tab.beaconed()).map(({ event_id }) => event_id)).toEqual([last]);
    tab.comeBack();
    tracked.track("CLICK");
    await pass(5_000);
    expect(tab.beacons).toHaveLength(1);
    expect(tracked.waiting).toBe(0);
  });

  it("asks no other origin for leave before its beacon", () => {
    const tab = new Tab(ok);
    const { tracked } = tracker(tab, { endpointUrl: "https://collector.example/track" });
    tracked.track("CLICK");
    tab.hide();
    expect(tab.beacons[0]?.type).toBe("text/plain;charset=utf-8");
  });

  it("leaves a server alone that asked for it, but for what would be lost", async () => {
    const storage = new FakeStorage();
    const tab = new Tab(status(429, { "retry-after": "60" }), storage, new FakeLocks());
    const { tracked } = tracker(tab, { batchSize: 1 });
    tracked.start();
    await pass(0);
    tracked.track("CLICK");
    await pass(0);
    storage.quota = 0;
    const lost = tracked.track("CLICK");
    tab.hide();
    expect((await tab.beaconed()).map(({ event_id }) => event_id)).toEqual([lost]);
  });
});

describe("the application", () => {
  it("hears of wrong settings at once", () => {
    const tab = new Tab(ok);
    expect(() => tracker(tab, { endpointUrl: "" })).toThrow("`endpointUrl`");
    expect(() => tracker(tab, { appName: undefined as unknown as string })).toThrow("`appName`");
    expect(() => tracker(tab, { batchSize: 0 })).toThrow("between 1 and 500");
    expect(() => tracker(tab, { batchSize: 2.5 })).toThrow("`batchSize`");
    expect(() => tracker(tab, { flushInterval: NaN })).toThrow("`flushInterval`");
  });

  it("is never thrown into", async () => {
    const tab = new Tab(ok);
    const { tracked, said } = tracker(tab, { debug: true });
    const ring: Record<string, unknown> = {};
    ring["ring"] = ring;
    expect(tracked.track("CLICK", { metadata: ring })).toBeUndefined();
    expect(tracked.track("CLICK", { metadata: { big: 1n } })).toBeUndefined();
    expect(tracked.track("CLICK", { metadata: { text: "x".repeat(EVENT_BYTES_MAX) } })).toBeUndefined();
    expect(said).toHaveLength(3);
    const { tracked: angry } = tracker(tab, {
      debug: true,
      log: () => {
        throw new Error("no");
      },
    });
    expect(angry.track("CLICK", { metadata: ring })).toBeUndefined();
    expect(angry.track("CLICK")).toBeDefined();
  });

  it("gets text that is Unicode to the server, whatever it was", async () => {
    const tab = new Tab(ok);
    const { tracked } = tracker(tab);
    tracked.track("CLICK", { component: `${"x".repeat(255)}😀`, metadata: { half: "a\ud800b", whole: "😀" } });
    await tracked.flush();
    const event = tab.posted[0]?.events[0];
    expect(event?.component_name).toBe("x".repeat(255));
    expect(event?.user_metadata).toEqual({ half: "a\uFFFDb", whole: "😀" });
  });

  it("hears of everything under `debug`, and of problems alone otherwise", async () => {
    const loud = tracker(new Tab(ok), { debug: true });
    loud.tracked.track("CLICK");
    await loud.tracked.flush();
    expect(loud.said.length).toBeGreaterThanOrEqual(2);
    const quiet = tracker(new Tab(ok));
    quiet.tracked.track("CLICK");
    await quiet.tracked.flush();
    expect(quiet.said).toEqual([]);
  });

  it("may stop and start: nothing is lost, nothing is sent meanwhile", async () => {
    const tab = new Tab(ok, new FakeStorage(), new FakeLocks());
    const { tracked } = tracker(tab, { batchSize: 1 });
    tracked.start();
    await pass(0);
    tracked.stop();
    const id = tracked.track("CLICK");
    await pass(10_000);
    expect(tab.posted).toHaveLength(0);
    tracked.start();
    await pass(10_000);
    expect(tab.ids).toEqual([id]);
  });
});
