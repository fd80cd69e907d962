/**
 * Chromium with a profile that outlives it, and with ears of its own for what happens on a page.
 */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium, type BrowserContext, type Page } from "playwright-core";

import { variable } from "./server.js";

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  // A name whose pages are not of HTTPS and not of localhost: browsers give them neither locks nor `randomUUID`.
  "--host-resolver-rules=MAP shop.example 127.0.0.1",
];

/** A browser with a profile of its own, which outlives its windows. */
export class Browser {
  readonly #profile = mkdtempSync(join(tmpdir(), "tidemill-chromium-"));
  #context: BrowserContext | undefined;
  /** Events that happened, by type and component, as the browser says. */
  readonly happened = new Map<string, number>();
  /** Addresses that were asked for, and what the console complained about. */
  readonly origins = new Set<string>();
  readonly complaints: string[] = [];

  /** Opens a window on a page that has such an element in the end, and the browser first if there is none. */
  async open(url: string, has: string, prepare?: (context: BrowserContext) => Promise<void>): Promise<Page> {
    const context = (this.#context ??= await this.#start());
    await prepare?.(context);
    const page = await context.newPage();
    page.on("console", (message) => message.type() === "error" && this.complaints.push(message.text()));
    page.on("pageerror", (error) => this.complaints.push(error.message));
    await page.goto(url);
    await page.waitForSelector(has);
    return page;
  }

  async close(): Promise<void> {
    await this.#context?.close();
    this.#context = undefined;
  }

  async remove(): Promise<void> {
    await this.close();
    rmSync(this.#profile, { recursive: true, force: true, maxRetries: 5 });
  }

  async #start(): Promise<BrowserContext> {
    const context = await chromium.launchPersistentContext(this.#profile, {
      executablePath: variable("CHROMIUM"),
      headless: true,
      args: FLAGS,
      viewport: { width: 1360, height: 860 },
    });
    context.on("request", (request) => {
      const { origin, protocol } = new URL(request.url());
      if (protocol !== "data:") {
        this.origins.add(origin);
      }
    });
    const count = (name: string): void => void this.happened.set(name, (this.happened.get(name) ?? 0) + 1);
    await context.exposeFunction("tidemillCount", count);
    // Listeners of the document, in front of those of the page.
    await context.addInitScript(() => {
      const count = (name: string): void => (window as never as { tidemillCount(name: string): void }).tidemillCount(name);
      const names: readonly (readonly [type: string, name: string])[] = [
        ["mouseenter", "HOVER_ENTER"],
        ["mouseleave", "HOVER_LEAVE"],
        ["click", "CLICK"],
      ];
      const components: readonly (readonly [selector: string, component: string, clicked: boolean])[] = [
        [".card", "ProductCard", false],
        [".card button", "AddToBasket", true],
        ["nav a", "NavLink", true],
      ];
      for (const [type, name] of names) {
        const listener = (event: Event): void => {
          for (const [selector, component, clicked] of components) {
            const target = event.target instanceof Element ? event.target : undefined;
            const hit = type === "click" ? clicked && target?.closest(selector) : target?.matches(selector);
            // The button in a card is clicked, and not hovered over.
            if (hit && (type === "click" || component !== "AddToBasket")) {
              count(`${name} ${component}`);
            }
          }
        };
        document.addEventListener(type, listener, { capture: true });
      }
    });
    return context;
  }
}
