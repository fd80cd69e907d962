/**
 * The page at `/demo` in a real browser against the real server: whatever ends in between, each event is there once.
 *
 * Method: the test counts what it does and what the browser says that happened, by listeners of its own, outside of the
 * page; in the end the server's counts must be those, and every id must be there once.
 */

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Page } from "playwright-core";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

import { Browser } from "./browser.js";
import { Tidemill, until } from "./server.js";

const SCREENSHOTS = fileURLToPath(new URL("screenshots/", import.meta.url));

/** Does something with every card, and with the links. Gives how many bursts of a hundred there were. */
async function wander(page: Page, bursts: number): Promise<number> {
  // A window behind another one is not drawn, and what is not drawn cannot be clicked.
  await page.bringToFront();
  await page.click("nav a:has-text('Shop')");
  for (let card = 1; card <= 6; card += 1) {
    await page.hover(`.card:nth-child(${card}) h3`);
  }
  await page.click(".card:nth-child(2) button");
  await page.click(".card:nth-child(5) button");
  for (let burst = 0; burst < bursts; burst += 1) {
    await page.click("text=100 events at once");
  }
  await page.click("nav a:has-text('About')");
  return bursts;
}

const waiting = async (page: Page): Promise<number> => Number(await page.textContent("[data-testid=waiting]"));
const sentAll = (page: Page): Promise<boolean> => until("nothing waits", async () => (await waiting(page)) === 0);
const line = (page: Page, text: string): Promise<unknown> =>
  until(`the page says "${text}"`, async () => (await page.textContent("[role=status]")) === text);

/** What the server has: by type and component, and how many ids. */
async function stored(server: Tidemill): Promise<{ counts: Map<string, number>; events: number; ids: number }> {
  const rows = await server.sql(
    "SELECT event_type, coalesce(component_name, '') AS component, count(*), count(DISTINCT event_id) " +
      "FROM user_events GROUP BY 1, 2 ORDER BY 1, 2",
  );
  const counts = new Map(rows.map(([type, component, count]) => [`${String(type)} ${String(component)}`, Number(count)]));
  const sum = (at: number): number => rows.reduce((total, row) => total + Number(row[at]), 0);
  return { counts, events: sum(2), ids: sum(3) };
}

describe("the demo page", () => {
  let server: Tidemill;
  let browser: Browser;
  beforeEach(async () => {
    mkdirSync(SCREENSHOTS, { recursive: true });
    browser = new Browser();
    server = await Tidemill.start();
  });
  afterEach(async () => {
    await browser.remove();
    await server.remove();
  });
  const shoot = (page: Page, name: string): Promise<Buffer> =>
    page.screenshot({ path: join(SCREENSHOTS, `${name}.png`), animations: "disabled" });

  it("shows each event as it arrives, and asks nobody but its own server", async () => {
    const page = await browser.open(`${server.url}/demo`, ".card");
    await line(page, "live");
    await wander(page, 0);
    await page.click("nav a:has-text('Shop')");
    await sentAll(page);
    const { ids } = await until("all arrived", async () => {
      const has = await stored(server);
      const shown = await page.locator("[data-event-id]").count();
      return shown === has.ids && has;
    });
    expect(ids).toBeGreaterThan(20);
    await shoot(page, "shop");
    await page.click("nav a:has-text('Basket')");
    await page.click("text=Order");
    await until("the order arrives", () => page.locator("[data-event-id] >> text=OrderButton").isVisible());
    await shoot(page, "basket");
    expect([...browser.origins]).toEqual([server.url]);
    expect(browser.complaints).toEqual([]);
  });

  it("asks again and again where there is no stream of events", async () => {
    const page = await browser.open(`${server.url}/demo`, ".card", async (context) => {
      await context.route("**/tail", (route) => route.fulfill({ status: 404, body: "" }));
    });
    await line(page, "asking every second");
    await wander(page, 0);
    await sentAll(page);
    await until("all arrived", async () => {
      const shown = await page.locator("[data-event-id]").count();
      return shown === (await stored(server)).ids;
    });
  });

  it("brings each event once, while servers, pages and browsers come and go", async () => {
    let bursts = 0;
    let views = 0;
    const open = async (): Promise<Page> => {
      views += 1;
      return browser.open(`${server.url}/demo`, ".card");
    };
    const wandered = async (page: Page, count: number): Promise<void> => {
      const before = await page.title();
      bursts += await wander(page, count);
      // From where it was to the shop, unless it was there, and then to the page about it.
      views += before === "The Mill Shop" ? 1 : 2;
    };

    const page = await open();
    await line(page, "live");
    await wandered(page, 1);
    await sentAll(page);

    // The server dies, and the visitor goes on.
    await server.stop("SIGKILL");
    await wandered(page, 2);
    await line(page, "the server is away");
    // The page counts at its own pace, so the second burst may not be in what it says at once.
    await until("both bursts wait", async () => (await waiting(page)) > 200);
    await page.click("nav a:has-text('Shop')");
    views += 1;
    await shoot(page, "away");
    await server.start();
    await sentAll(page);
    await line(page, "live");

    // It is stopped in the middle of a burst.
    const stopped = server.stop("SIGTERM");
    await wandered(page, 2);
    await stopped;
    await server.start();
    await sentAll(page);

    // Two windows; one goes to another address, with what waits in a beacon.
    const other = await open();
    await wandered(other, 1);
    await wandered(page, 1);
    await other.goto("about:blank");
    await sentAll(page);

    // One goes while the server is away: its beacon reaches nobody, and the next visit brings what it left.
    await server.stop("SIGKILL");
    await wandered(page, 1);
    await page.goto("about:blank");
    await browser.close();
    await server.start();
    const again = await open();
    await line(again, "live");
    await sentAll(again);

    // A window crashes before it has sent anything; another one takes over.
    const crashing = await open();
    await server.stop("SIGKILL");
    await wandered(crashing, 1);
    const crashed = crashing.waitForEvent("crash");
    void crashing.goto("chrome://crash").catch(() => undefined);
    await crashed;
    await server.start();
    await wandered(again, 1);
    await again.reload();
    views += 1;
    await again.waitForSelector(".card, .prose");

    const expected = new Map(browser.happened);
    expected.set("BURST BurstButton", 100 * bursts);
    expected.set("PAGE_VIEW ", views);
    const total = [...expected.values()].reduce((sum, count) => sum + count, 0);
    const has = await until(`${total} events`, async () => {
      const has = await stored(server);
      return has.ids >= total && has;
    });
    const sorted = (counts: Map<string, number>): object => Object.fromEntries([...counts].sort());
    expect(sorted(has.counts)).toEqual(sorted(expected));
    expect(has.ids).toBe(total);
    expect(has.events).toBe(total);
    const numbers = await server.sql(
      "SELECT count(*) FROM (SELECT event_id FROM user_events GROUP BY event_id HAVING count(*) > 1) AS twice",
    );
    expect(numbers).toEqual([[0]]);
  });
});
