// What a query did: its operators, what each gave, and where the time went.

import type { PlanStep } from "../api/types";
import { formatCount, formatTook, plural } from "../lib/format";

export function Explain({ expr, plan }: { expr: string; plan: PlanStep[] }) {
  if (!plan.length) return <p class="card">The server gave no plan for <code>{expr}</code>.</p>;
  return (
    <div class="card scroll">
      <table class="plan">
        <thead>
          <tr>
            <th scope="col">Operator</th><th scope="col" class="number">Series</th><th scope="col" class="number">Samples</th>
            <th scope="col" class="number">Own time</th><th scope="col" class="number">With children</th>
          </tr>
        </thead>
        <tbody>
          {plan.map((step, i) => (
            <tr key={i}>
              <td class="step" style={{ paddingLeft: `${0.5 + Math.min(step.depth, 20) * 1.2}rem` }}>
                {step.operator}
                {step.selectedSeries !== undefined && (
                  <div class="dim">
                    {plural(step.selectedSeries, "series", "series")} found, {plural(step.readSamples ?? 0, "sample")} read
                  </div>
                )}
              </td>
              <td class="number">{formatCount(step.series)}</td>
              <td class="number">{formatCount(step.samples)}</td>
              <td class="number">{formatTook(step.ownSeconds)}</td>
              <td class="number">{formatTook(step.totalSeconds)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
