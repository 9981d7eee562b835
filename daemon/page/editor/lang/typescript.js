import{e as t}from"../part-DYUJ6ZUA.js";import"../part-PRTZKLIB.js";import"../part-HKINVIUS.js";import"../part-45VXAKZ5.js";var e=()=>t({jsx:!0,typescript:!0});export{e as default};
