import { render } from "preact";
import "uplot/dist/uPlot.min.css";
import "../style.css";
import "./query.css";
import { startTheme } from "../theme";
import { loadWords, readAddress } from "./model";
import { Page } from "./Page";

startTheme();
void loadWords();
addEventListener("popstate", readAddress);
const page = document.getElementById("page");
if (page) render(<Page />, page);
readAddress();
