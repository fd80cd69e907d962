import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import type { UserTracker } from "../src/tracker.js";
import { FakeLocks, FakeStorage, ok, seeded, Tab, tracker, type Answer } from "./world.js";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

const SEEDS = Array.from({ length: process.env["TIDEMILL_SOAK"] === "1" ? 300 : 6 }, (_, index) => index + 1);

const pass = (ms: number): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);
const offline: Answer = () => Promise.reject(new TypeError("offline"));

describe.each(["locks", "signs of life"])("tabs that know of each other by %s", (means) => {
  let storage: FakeStorage;
  let locks: FakeLocks | undefined;
  beforeEach(() => {
    storage = new FakeStorage();
    locks = means === "locks" ? new FakeLocks() : undefined;
  });
  const open = (answer: Answer): { tab: Tab; tracked: UserTracker } => {
    const tab = new Tab(answer, storage, locks);
    const { tracked } = tracker(tab);
    tracked.start();
    return { tab, tracked };
  };
  /** After this time a tab that died is known to be dead. */
  const dead = 400_000;

  it("never send each other's events", async () => {
    const one = open(offline);
    const two = open(offline);
    await pass(1_000);
    const ids = [one, two].map(({ tracked }) => Array.from({ length: 5 }, () => tracked.track("CLICK")));
    await pass(600_000);
    one.tab.posted.length = 0;
    two.tab.posted.length = 0;
    one.tab.answer = ok;
    two.tab.answer = ok;
    await pass(120_000);
    expect(one.tab.ids).toEqual(ids[0]);
    expect(two.tab.ids).toEqual(ids[1]);
  });

  it("take over from one that died, and only one of them does", async () => {
    const old = open(offline);
    await pass(1_000);
    const ids = Array.from({ length: 7 }, () => old.tracked.track("CLICK"));
    await pass(1_000);
    if (locks) {
      old.tab.kill(old.tracked);
    } else {
      // It says nothing any more, not even goodbye.
      const alive = [...storage.items].filter(([key]) => key.includes("/alive/"));
      old.tab.kill(old.tracked);
      alive.forEach(([key, value]) => storage.setItem(key, value));
    }
    const tabs = [open(ok), open(ok), open(ok)];
    await pass(dead);
    expect(tabs.flatMap(({ tab }) => tab.ids).sort()).toEqual([...ids].sort());
    tabs.forEach(({ tracked }) => tracked.stop());
    await pass(1_000);
    expect(storage.length).toBe(0);
  });

  it("have what a page left that went to another address", async () => {
    const old = open(offline);
    await pass(1_000);
    const id = old.tracked.track("CLICK");
    old.tab.leave();
    const next = open(ok);
    await pass(10_000);
    expect(next.tab.ids).toEqual([id]);
    // The old one comes back from the browser's cache: its event is not its any more.
    old.tab.answer = ok;
    old.tab.posted.length = 0;
    old.tab.comeBack();
    const later = old.tracked.track("CLICK");
    await pass(100_000);
    expect(old.tab.ids).toEqual([later]);
    expect(old.tracked.waiting).toBe(0);
  });

  it("have what a page left, itself, when it comes back and nobody else was there", async () => {
    const { tab, tracked } = open(offline);
    await pass(1_000);
    const id = tracked.track("CLICK");
    tab.leave();
    await pass(1_000);
    tab.answer = ok;
    tab.comeBack();
    await pass(100_000);
    expect(tab.ids).toEqual([id]);
  });

  it("do not send again what is under way, although the page was left and came back", async () => {
    let answer = (): void => undefined;
    const { tab, tracked } = open(() => new Promise((answered) => (answer = () => answered(ok()))));
    await pass(1_000);
    const id = tracked.track("CLICK");
    await pass(5_000);
    tab.leave();
    await pass(1_000);
    tab.comeBack();
    await pass(20_000);
    expect(tab.ids).toEqual([id]);
    answer();
    await pass(60_000);
    expect(tab.ids).toEqual([id]);
    expect(storage.items.size).toBe(locks ? 0 : 1);
  });

  it.each(SEEDS)("bring each event, whatever they do (seed %i)", async (seed) => {
    const random = seeded(seed);
    const stored = new Set<string>();
    const everSent = new Map<string, number>();
    const server: Answer = async ({ batch }) => {
      await new Promise((answered) => setTimeout(answered, random() * 200));
      const lot = random();
      if (lot < 0.2) {
        throw new TypeError("connection refused");
      }
      batch.events.forEach(({ event_id }) => {
        stored.add(event_id);
        everSent.set(event_id, (everSent.get(event_id) ?? 0) + 1);
      });
      if (lot < 0.3) {
        throw new TypeError("connection reset before the answer");
      }
      return lot < 0.4 ? new Response("", { status: 503 }) : ok();
    };
    const made = new Set<string>();
    let tabs = [open(server), open(server)];
    for (let step = 0; step < 300; step += 1) {
      const lot = random();
      const at = Math.floor(random() * tabs.length);
      const some = tabs[at];
      if (!some || lot < 0.05) {
        tabs.push(open(server));
        await pass(150);
      } else if (lot < 0.08) {
        some.tab.leave();
        tabs.splice(at, 1);
      } else if (lot < 0.11) {
        some.tab.kill(some.tracked);
        tabs.splice(at, 1);
      } else if (lot < 0.2) {
        some.tab.hide();
        some.tab.show();
      } else if (some.tab.storage) {
        const id = some.tracked.track("CLICK");
        made.add(id ?? "");
      }
      await pass(random() * 3_000);
    }
    tabs = [...tabs, open(server)];
    await pass(1_000_000);
    expect([...made].filter((id) => !stored.has(id))).toEqual([]);
    expect(storage.items.size).toBeLessThanOrEqual(means === "locks" ? 0 : tabs.length);
  });
});
