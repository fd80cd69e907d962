import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";

import { Backoff } from "../src/backoff.js";
import { RETRY_AFTER_MS_MAX, RETRY_MS_MAX } from "../src/limits.js";
import { retryAfter } from "../src/sender.js";

describe("the package", () => {
  it("needs nothing at run time, and React only where it is used", () => {
    const folder = new URL("../", import.meta.url);
    const manifest = JSON.parse(readFileSync(new URL("package.json", folder), "utf8")) as Record<string, unknown>;
    expect(manifest["dependencies"]).toBeUndefined();
    for (const file of readdirSync(new URL("src/", folder))) {
      const text = readFileSync(new URL(`src/${file}`, folder), "utf8");
      const foreign = [...text.matchAll(/from "([^.][^"]*)"/g)].map(([, name]) => name);
      expect(foreign.filter((name) => !(file === "react.tsx" && name === "react"))).toEqual([]);
    }
  });
});

describe("a pause", () => {
  it("grows to its bound and differs from browser to browser", () => {
    for (const share of [0, 0.5, 0.999]) {
      const backoff = new Backoff(() => share);
      const pauses = Array.from({ length: 2_000 }, () => backoff.failed(undefined));
      expect(pauses[0]).toBe(1_000 * (0.5 + share / 2));
      expect(Math.max(...pauses)).toBeLessThanOrEqual(RETRY_MS_MAX);
      expect(pauses.at(-1)).toBe(RETRY_MS_MAX * (0.5 + share / 2));
      backoff.succeeded();
      expect(backoff.failed(undefined)).toBe(pauses[0]);
      expect(backoff.failed(5_000)).toBe(5_000 + share * 1_000);
    }
  });

  it("is as long as the server asks for, in seconds or until a date, within bounds", () => {
    const now = Date.UTC(2026, 10, 21, 15, 0, 0);
    expect(retryAfter("7", now)).toBe(7_000);
    expect(retryAfter("Sat, 21 Nov 2026 15:01:00 GMT", now)).toBe(60_000);
    expect(retryAfter("Sat, 21 Nov 2026 14:00:00 GMT", now)).toBe(0);
    expect(retryAfter("999999999999", now)).toBe(RETRY_AFTER_MS_MAX);
    expect(["soon", "", " ", "-1x", null].map((header) => retryAfter(header, now))).toEqual(
      Array.from({ length: 5 }, () => undefined),
    );
  });
});
