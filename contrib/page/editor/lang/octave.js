import { StreamLanguage } from "@codemirror/language";
import { octave } from "@codemirror/legacy-modes/mode/octave";

export default () => StreamLanguage.define(octave);
