// Log in, set up and error pages.
import { startControls } from "./controls.js";

startControls();
document.querySelector("[aria-invalid]")?.focus();
