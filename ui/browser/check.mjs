// Opens the page in a real browser, over a real server: `node browser/check.mjs ../target/fast/streamgate [FOLDER]`.
// With a folder it leaves screenshots there. Bounded: nothing is waited for longer than 20 s.
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [binary, shots] = process.argv.slice(2);
if (!binary) throw new Error("usage: node browser/check.mjs STREAMGATE [FOLDER FOR SCREENSHOTS]");
const WAIT_MS = 20_000;
const begun = Date.now();
const data = await mkdtemp(join(tmpdir(), "streamgate-ui-"));
const server = spawn(binary, ["serve", "--web.listen-address=127.0.0.1:0", `--storage.tsdb.path=${data}`]);
let browser;
let failed = null;

function listening() {
  return new Promise((resolve, reject) => {
    let log = "";
    const timer = setTimeout(() => reject(new Error(`the server does not say where it listens:\n${log}`)), WAIT_MS);
    const read = (bytes) => {
      log += bytes;
      const found = /127\.0\.0\.1:(\d+)/.exec(log);
      if (found && found[1] !== "0") {
        clearTimeout(timer);
        resolve(`http://127.0.0.1:${found[1]}`);
      }
    };
    server.stdout.on("data", read);
    server.stderr.on("data", read);
    server.on("exit", () => reject(new Error(`the server ended:\n${log}`)));
  });
}

async function until(what, ask) {
  const end = Date.now() + WAIT_MS;
  for (;;) {
    const answer = await ask().catch(() => null);
    if (answer) return answer;
    if (Date.now() > end) throw new Error(`in vain waited for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

async function check(base) {
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
  const context = await browser.newContext({ viewport: { width: 1100, height: 800 } });
  // UI=dist takes the files from there instead of from the binary: what changed in ui/ is seen without building Rust.
  if (process.env.UI) {
    await context.route(/\/assets\/|\/query(\?|$)/, async (route) => {
      const path = new URL(route.request().url()).pathname;
      if (path.startsWith("/api/")) return route.continue();
      const answer = await route.fetch({ url: `${base}/query` });
      const file = path === "/query" ? "query.html" : path;
      const contentType = { html: "text/html", js: "text/javascript", css: "text/css" }[file.split(".").pop()];
      await route.fulfill({
        path: join(process.env.UI, file),
        headers: { "content-type": contentType, "content-security-policy": answer.headers()["content-security-policy"] },
      });
    });
  }
  const page = await context.newPage();
  page.setDefaultTimeout(WAIT_MS);
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(`script: ${error.message}`));
  page.on("console", (message) => {
    // An expression that is refused is answered with 400, which the console counts as an error of its own.
    if (message.type() === "error" && !/status of 400/.test(message.text())) complaints.push(message.text());
  });
  const shot = async (name) => shots && page.screenshot({ path: join(shots, `${name}.png`) });
  const passed = (what) => console.log(`ok: ${what}`);
  await until("samples", async () => {
    const answer = await (await fetch(`${base}/api/v1/query?query=count(rate(node_cpu_seconds_total[1m]))`)).json();
    return answer.data.result.length > 0;
  });

  await page.goto(base);
  await page.getByRole("link", { name: "Query" }).click();
  const editor = page.locator(".cm-content");
  await editor.click();
  await page.keyboard.type("rat");
  await page.locator(".cm-tooltip-autocomplete li", { hasText: "rate(range vector)" }).first().waitFor();
  await page.locator(".cm-completionInfo").waitFor();
  await shot("completion");
  passed("typing `rat` offers rate with its signature");
  // The editor takes no key for a list that has only just opened.
  await page.waitForTimeout(300);
  await page.keyboard.press("Enter");
  await page.keyboard.type("node_cpu_sec");
  await page.locator(".cm-tooltip-autocomplete li", { hasText: "node_cpu_seconds_total" }).first().waitFor();
  await page.waitForTimeout(300);
  await page.keyboard.press("Enter");
  await page.keyboard.type("{");
  await page.locator(".cm-tooltip-autocomplete li", { hasText: "mode" }).first().waitFor();
  await page.keyboard.type("mode=");
  await page.locator(".cm-tooltip-autocomplete li", { hasText: "idle" }).first().waitFor();
  await shot("values");
  await page.keyboard.type('"');
  await page.locator(".cm-tooltip-autocomplete li", { hasText: "idle" }).first().waitFor();
  await page.keyboard.type("idl");
  await page.waitForTimeout(300);
  await page.keyboard.press("Enter");
  const written = await editor.textContent();
  if (written !== 'rate(node_cpu_seconds_total{mode="idle"})') throw new Error(`completion wrote ${written}`);
  passed("metrics, label names and values are completed");
  await page.keyboard.press("ArrowRight");
  await page.keyboard.type("[1");
  await page.locator(".cm-tooltip-autocomplete li", { hasText: "1m" }).first().waitFor();
  await page.keyboard.type("m");
  await page.keyboard.press("Escape");
  await page.keyboard.press("Control+Enter");
  await page.locator("td.series", { hasText: "idle" }).first().waitFor();
  await shot("table");
  passed("Ctrl+Enter gives a table");

  await page.getByRole("tab", { name: "Graph" }).click();
  await page.locator(".plot canvas").waitFor();
  const drawn = await until("a line", () => page.locator(".plot canvas").evaluate((canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 200 && Math.max(data[i], data[i + 1], data[i + 2]) - Math.min(data[i], data[i + 1], data[i + 2]) > 80) return true;
    return false;
  }));
  if (!drawn || !new URL(page.url()).searchParams.get("g0.expr")?.startsWith("rate(")) throw new Error(`the address is ${page.url()}`);
  await page.getByLabel("Range", { exact: true }).fill("5m");
  await page.keyboard.press("Enter");
  await until("the range in the address", async () => page.url().includes("range_input=5m"));
  await page.waitForTimeout(300);
  await shot("graph");
  passed("a graph is drawn, and stands in the address");

  await page.getByRole("tab", { name: "Explain" }).click();
  await page.locator(".plan td", { hasText: "found" }).waitFor();
  await shot("explain");
  passed("explain shows the plan");

  await page.goto(`${base}/${process.env.UI ? "query" : "graph"}?g0.expr=${encodeURIComponent("sum(rte(up[5m]))")}&g0.tab=1`);
  await page.locator(".cm-lintRange-error", { hasText: "rte" }).waitFor();
  await page.locator(".wrong", { hasText: 'did you mean "rate"' }).waitFor();
  await shot("error");
  await page.getByRole("button", { name: "Use rate" }).click();
  await until("the suggestion", async () => (await editor.textContent()) === "sum(rate(up[5m]))");
  await page.locator(".wrong").waitFor({ state: "detached" });
  passed("an error is underlined where it is, and its suggestion taken");

  await page.emulateMedia({ colorScheme: "dark" });
  await page.goto(`${base}/query?g0.expr=${encodeURIComponent("sum by (mode) (rate(node_cpu_seconds_total[1m]))")}&g0.tab=graph&g0.range_input=5m`);
  await page.locator(".plot canvas").waitFor();
  await shot("dark");
  await page.setViewportSize({ width: 400, height: 900 });
  await page.getByRole("button", { name: "History" }).click();
  await page.locator(".history button").first().waitFor();
  await page.waitForTimeout(300);
  await shot("narrow");
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  if (wide > 400) throw new Error(`at 400 pixels the page is ${wide} wide`);
  passed("dark, and 400 pixels wide");

  if (complaints.length) throw new Error(`the browser complained:\n${complaints.join("\n")}`);
  server.removeAllListeners("exit");
  server.kill("SIGKILL");
  await page.getByRole("button", { name: "Run" }).click();
  await page.locator("[role=alert]", { hasText: "No answer" }).waitFor();
  await shot("unreachable");
  passed("a server that is gone is told");
}

try {
  await check(await listening());
  console.log(`browser check passed in ${((Date.now() - begun) / 1000).toFixed(1)} s`);
} catch (error) {
  failed = error;
  const page = browser?.contexts()[0]?.pages()[0];
  if (shots) await page?.screenshot({ path: join(shots, "failed.png") }).catch(() => {});
} finally {
  await browser?.close();
  server.removeAllListeners("exit");
  server.kill("SIGKILL");
  await rm(data, { recursive: true, force: true });
}
if (failed) {
  console.error(failed);
  process.exit(1);
}
