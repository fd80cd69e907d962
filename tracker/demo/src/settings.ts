/**
 * What the page must know of the server that it came from: `/demo/config.json`, which is made of its `[demo]` section.
 */

/** Where events go, and where they come back from. All of it are paths of one server. */
export interface DemoSettings {
  readonly stream: string;
  readonly track: string;
  readonly events: string;
  readonly tail: string;
  readonly version: string;
}

const NAMES = ["stream", "track", "events", "tail", "version"] as const;

/** Asks the server. */
export async function settings(): Promise<DemoSettings> {
  const response = await fetch(`${import.meta.env.BASE_URL}config.json`);
  if (!response.ok) {
    throw new Error(`the server answers ${response.status} when it is asked for its settings`);
  }
  const body: unknown = await response.json();
  const isComplete = (value: unknown): value is DemoSettings =>
    typeof value === "object" && value !== null && NAMES.every((name) => typeof Reflect.get(value, name) === "string");
  if (!isComplete(body)) {
    throw new Error("the settings of the server are not those of this page");
  }
  return body;
}
