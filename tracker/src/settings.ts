/**
 * What a tracker is told: the settings, their defaults and their bounds.
 */

import { BATCH_EVENTS_MAX } from "./limits.js";

/** Takes what the tracker has to say. Problems come always, everything else under `debug`. */
export type Log = (message: string, detail?: unknown) => void;

/** The settings of a tracker. */
export interface TrackerSettings {
  /** Where batches are posted, as `/track` or `https://collector.example/track`. */
  readonly endpointUrl: string;
  /** So many events are sent together, without waiting for `flushInterval`. Default: 10. Between 1 and 500. */
  readonly batchSize?: number;
  /** An event waits at most so many milliseconds for others. Default: 5000. Between 10 and 3600000. */
  readonly flushInterval?: number;
  /** The application's name, which goes with every batch. */
  readonly appName: string;
  /** The application's version, likewise. */
  readonly appVersion: string;
  /** Whether `log` hears of everything, and not of problems alone. Default: false. */
  readonly debug?: boolean;
  /** Default: the console. */
  readonly log?: Log;
}

/** Settings with every default in its place. */
export interface Checked {
  readonly endpointUrl: string;
  readonly batchSize: number;
  readonly flushInterval: number;
  readonly appName: string;
  readonly appVersion: string;
  /** Something went wrong, and what became of it. */
  readonly warn: Log;
  /** What happens, when somebody wants to know. */
  readonly trace: Log;
}

/**
 * Fills in the defaults.
 *
 * @throws RangeError or TypeError when a setting is wrong: it is a slip of the programmer, who sees it at once.
 */
export function check(settings: TrackerSettings): Checked {
  const { endpointUrl, appName, appVersion, debug = false } = settings;
  for (const [name, value] of Object.entries({ endpointUrl, appName, appVersion })) {
    if (typeof value !== "string" || value === "") {
      throw new TypeError(`\`${name}\` is text that is not empty, not \`${String(value)}\``);
    }
  }
  const log = settings.log ?? ((message, detail) => console.warn(`react-user-tracker: ${message}`, detail ?? ""));
  const careful = harmless(log);
  return {
    endpointUrl,
    appName,
    appVersion,
    batchSize: within("batchSize", settings.batchSize ?? 10, 1, BATCH_EVENTS_MAX),
    flushInterval: within("flushInterval", settings.flushInterval ?? 5_000, 10, 3_600_000),
    warn: careful,
    trace: debug ? careful : () => undefined,
  };
}

/** What the application does with a message must not stop the tracker. */
function harmless(log: Log): Log {
  return (message, detail) => {
    try {
      log(message, detail);
    } catch {
      // There is nobody left to tell.
    }
  };
}

function within(name: string, value: number, least: number, most: number): number {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new RangeError(`\`${name}\` is a whole number between ${least} and ${most}, not ${String(value)}`);
  }
  return value;
}
