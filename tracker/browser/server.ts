/**
 * The real server, with the recipe of user tracking, at one port: it is stopped, killed and started again.
 */

import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** How long anything may take; nothing takes so long when all is well. */
const PATIENCE = 60_000;

const RECIPE = fileURLToPath(new URL("../../recipes/user-tracking/tidemill.toml", import.meta.url));

/** What a variable says that `cargo xtask tracker` sets. */
export function variable(name: string): string {
  const value = process.env[name];
  if (value === undefined || value === "") {
    throw new Error(`\`${name}\` is not set: run \`cargo xtask tracker\``);
  }
  return value;
}

/** Waits until something holds. */
export async function until<T>(what: string, holds: () => Promise<T | undefined | false>): Promise<T> {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const value = await holds();
    if (value !== undefined && value !== false) {
      return value;
    }
    if (Date.now() > end) {
      throw new Error(`it never came: ${what}`);
    }
    await new Promise((looked) => setTimeout(looked, 50));
  }
}

/** A server with a directory of its own, which is removed in the end. */
export class Tidemill {
  readonly #directory = mkdtempSync(join(tmpdir(), "tidemill-browser-"));
  readonly #port: number;
  #process: ChildProcess | undefined;

  private constructor(port: number) {
    this.#port = port;
  }

  static async start(): Promise<Tidemill> {
    const server = new Tidemill(await freePort());
    await server.start();
    return server;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Starts and waits until it listens. */
  async start(): Promise<void> {
    const foreign = Object.keys(process.env).filter((name) => name.startsWith("TIDEMILL_"));
    const none = Object.fromEntries(foreign.map((name) => [name, undefined]));
    const environment = { ...process.env, ...none, TIDEMILL_DEMO_STREAM: "user_events" };
    const listen = ["--listen", `127.0.0.1:${this.#port}`, "--data-dir", join(this.#directory, "data")];
    const child = spawn(variable("TIDEMILL_BINARY"), ["serve", "--config", RECIPE, ...listen], {
      cwd: this.#directory,
      env: environment,
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#process = child;
    let said = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => (said = `${said}${text}`.slice(-4_000)));
    await new Promise<void>((listens, failed) => {
      createInterface({ input: child.stdout }).on("line", (line) => line.startsWith("listening on ") && listens());
      child.once("exit", (code) => failed(new Error(`the server ended with ${String(code)}: ${said}`)));
      child.once("error", failed);
    });
  }

  /** Ends it in order, or as a crash would. */
  async stop(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (child && child.exitCode === null) {
      const ended = new Promise((done) => child.once("exit", done));
      child.kill(signal);
      await ended;
    }
  }

  async remove(): Promise<void> {
    await this.stop("SIGKILL");
    rmSync(this.#directory, { recursive: true, force: true });
  }

  /** Rows of a statement. */
  async sql(statement: string): Promise<readonly (readonly unknown[])[]> {
    const headers = { "content-type": "text/plain", accept: "application/json" };
    const response = await fetch(`${this.url}/v1/sql`, { method: "POST", headers, body: statement });
    const text = await response.text();
    if (!response.ok) {
      throw new Error(`${statement}: ${response.status} ${text}`);
    }
    return (JSON.parse(text) as { readonly rows: readonly (readonly unknown[])[] }).rows;
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((listens) => server.listen(0, "127.0.0.1", listens));
  const { port } = server.address() as AddressInfo;
  await new Promise((closed) => server.close(closed));
  return port;
}
