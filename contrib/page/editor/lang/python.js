export { python as default } from "@codemirror/lang-python";
