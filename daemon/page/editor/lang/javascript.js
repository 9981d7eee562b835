import{e as r}from"../part-DYUJ6ZUA.js";import"../part-PRTZKLIB.js";import"../part-HKINVIUS.js";import"../part-45VXAKZ5.js";var a=()=>r({jsx:!0});export{a as default};
