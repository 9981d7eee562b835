import { StreamLanguage } from "@codemirror/language";
import { clojure } from "@codemirror/legacy-modes/mode/clojure";

export default () => StreamLanguage.define(clojure);
