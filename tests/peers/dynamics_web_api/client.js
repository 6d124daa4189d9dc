// Calls methods of dynamics-web-api: a line of JSON in, {"call", "request"}, and a line out,
// {"value"} or {"error": {"status", "message"}}. "batch" takes a list of calls. The second
// argument of a method, a page's link or the options of a batch, is "link".

import { createInterface } from "node:readline";
import { DynamicsWebApi } from "dynamics-web-api";

const [, , serverUrl, accessToken] = process.argv;
const api = new DynamicsWebApi({
  serverUrl,
  dataApi: { version: "9.2" },
  onTokenRefresh: async () => accessToken,
});

async function answer({ call, request, link }) {
  if (call !== "batch") return api[call](request, link);
  api.startBatch();
  for (const one of request) api[one.call](one.request);
  return api.executeBatch(link ?? undefined);
}

for await (const line of createInterface({ input: process.stdin })) {
  let said;
  try {
    said = { value: await answer(JSON.parse(line)) };
  } catch (error) {
    const first = Array.isArray(error) ? error[0] : error;
    said = { error: { status: first.status ?? null, message: String(first.message) } };
  }
  process.stdout.write(`${JSON.stringify(said)}\n`);
}
